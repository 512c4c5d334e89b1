// grpc.go - echo through grpc-go: unary calls, one stream with many messages under way, many streams with one each
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"dragoman/bench/rpc/peers/echopb"
)

const messageMax = 64 << 20

type echoServer struct {
	echopb.UnimplementedEchoServer
}

func (echoServer) Quick(_ context.Context, request *echopb.Payload) (*echopb.Payload, error) {
	return request, nil
}

func (echoServer) Chat(stream echopb.Echo_ChatServer) error {
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
}

func grpcServer(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(messageMax))
	echopb.RegisterEchoServer(server, echoServer{})
	fatal(server.Serve(listener))
}

func grpcClient(p *plan) {
	connection, err := grpc.NewClient(p.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax)))
	if err != nil {
		fatal(err)
	}
	defer connection.Close()
	client := echopb.NewEchoClient(connection)
	if _, err := client.Quick(context.Background(), &echopb.Payload{}, grpc.WaitForReady(true)); err != nil {
		fatal(err)
	}
	m := newMeasure(p)
	switch p.mode {
	case "chat":
		oneStream(client, m)
	case "chats":
		together(p.inFlight, func() { pingPong(client, m) })
	default:
		together(p.inFlight, func() { unaryCalls(client, m) })
	}
	m.print()
}

func together(n int, run func()) {
	var group sync.WaitGroup
	for range n {
		group.Add(1)
		go func() {
			defer group.Done()
			run()
		}()
	}
	group.Wait()
}

func newRequest(size int) *echopb.Payload {
	request := &echopb.Payload{Data: make([]byte, size)}
	fill(request.Data)
	return request
}

func unaryCalls(client echopb.EchoClient, m *measure) {
	request := newRequest(m.plan.size)
	for {
		number := m.next()
		stamp(request.Data, number)
		begun := time.Now()
		response, err := client.Quick(context.Background(), request)
		if err != nil {
			fatal(err)
		}
		check(request.Data, response.Data, number)
		if !m.call(begun) {
			return
		}
	}
}

func pingPong(client echopb.EchoClient, m *measure) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := client.Chat(ctx)
	if err != nil {
		fatal(err)
	}
	request := newRequest(m.plan.size)
	for {
		number := m.next()
		stamp(request.Data, number)
		begun := time.Now()
		if err := stream.Send(request); err != nil {
			fatal(err)
		}
		response, err := stream.Recv()
		if err != nil {
			fatal(err)
		}
		check(request.Data, response.Data, number)
		if !m.call(begun) {
			return
		}
	}
}

// Echoes come in the order of what was sent; one goroutine writes, one reads.
func oneStream(client echopb.EchoClient, m *measure) {
	type slot struct {
		request *echopb.Payload
		number  uint64
		begun   time.Time
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := client.Chat(ctx)
	if err != nil {
		fatal(err)
	}
	free := make(chan *slot, m.plan.inFlight)
	sent := make(chan *slot, m.plan.inFlight)
	for range m.plan.inFlight {
		free <- &slot{request: newRequest(m.plan.size)}
	}
	go func() {
		for s := range free {
			s.number = m.next()
			stamp(s.request.Data, s.number)
			s.begun = time.Now()
			sent <- s
			if stream.Send(s.request) != nil {
				return
			}
		}
	}()
	for {
		response, err := stream.Recv()
		if err != nil {
			fatal(err)
		}
		s := <-sent
		check(s.request.Data, response.Data, s.number)
		if !m.call(s.begun) {
			return
		}
		free <- s
	}
}
