// nats.go - request/reply through a NATS server, by its own Go client
package main

import (
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

func natsBroker() {
	broker, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, MaxPayload: 8 << 20, NoSigs: true, NoLog: true,
		MaxPending: 1 << 30, // else 64 requests of 1 MiB make a slow consumer, which is cut off
	})
	if err != nil {
		fatal(err)
	}
	go broker.Start()
	if !broker.ReadyForConnections(10 * time.Second) {
		fatal(fmt.Errorf("the NATS server does not start"))
	}
	fmt.Println(broker.ClientURL())
	broker.WaitForShutdown()
}

func natsServer(url string) {
	connection, err := nats.Connect(url)
	if err != nil {
		fatal(err)
	}
	subscription, err := connection.Subscribe("echo", func(message *nats.Msg) { message.Respond(message.Data) })
	if err == nil {
		err = subscription.SetPendingLimits(-1, -1)
	}
	if err == nil {
		err = connection.Flush()
	}
	if err != nil {
		fatal(err)
	}
	fmt.Println("ready")
	select {}
}

func natsClient(p *plan) {
	connection, err := nats.Connect(p.endpoint)
	if err != nil {
		fatal(err)
	}
	defer connection.Close()
	m := newMeasure(p)
	together(p.inFlight, func() {
		request := make([]byte, p.size)
		fill(request)
		for {
			number := m.next()
			stamp(request, number)
			begun := time.Now()
			response, err := connection.Request("echo", request, 10*time.Second)
			if err != nil {
				fatal(err)
			}
			check(request, response.Data, number)
			if !m.call(begun) {
				return
			}
		}
	})
	m.print()
}
