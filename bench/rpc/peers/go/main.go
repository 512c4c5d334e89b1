// The peers of bench/rpc that are written in Go: a client and a server each, as the C ones are used.
//
//	peers grpc-server ADDRESS | grpc-client FLAGS | nats-broker | nats-server URL | nats-client FLAGS
package main

import (
	"fmt"
	"os"
)

func main() {
	args := append(os.Args[1:], "", "")
	switch args[0] {
	case "grpc-server":
		grpcServer(args[1])
	case "grpc-client":
		grpcClient(parse(os.Args[2:]))
	case "nats-broker":
		natsBroker()
	case "nats-server":
		natsServer(args[1])
	case "nats-client":
		natsClient(parse(os.Args[2:]))
	default:
		fmt.Fprintln(os.Stderr, "usage: peers grpc-server ADDRESS | grpc-client FLAGS | nats-broker | nats-server URL | nats-client FLAGS")
		os.Exit(2)
	}
}
