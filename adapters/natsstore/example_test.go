package natsstore_test

import (
	"log"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/adapters/natsstore"
)

// sharedStore stands for the Store that all nodes share: sqlstore on PostgreSQL, or redisstore.
var sharedStore parley.Store

func Example() {
	conn, err := natsstore.Connect("nats://n1:4222,nats://n2:4222")
	if err != nil {
		log.Fatal(err) // the settings are wrong; that no server answers is no error
	}
	defer conn.Close()
	broker, err := natsstore.New(conn, natsstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = broker.Close() }()
	hub, err := parley.New(parley.Options{Store: sharedStore, Broker: broker})
	if err != nil {
		log.Fatal(err)
	}
	_ = hub // an http.Handler; call hub.Shutdown before the deferred calls run
}
