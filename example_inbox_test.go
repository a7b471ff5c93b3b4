package parley_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/parley-go/parley"
)

// The bell of a page that is rendered on the server, and an order page that
// counts as reading what was notified about the order.
func ExampleInbox() {
	ctx := context.Background()
	hub, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous})
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Shutdown(ctx)
	for _, order := range []int{7, 8} {
		_, err := hub.Notify(ctx, "user-42", map[string]int{"order": order},
			parley.WithID(fmt.Sprintf("order-%d-shipped", order)), parley.WithKind("order.shipped"), parley.WithTTL(48*time.Hour))
		if err != nil {
			log.Fatal(err)
		}
	}
	inbox := hub.Inbox("user-42")
	if _, err := inbox.MarkRead(ctx, parley.Selection{IDs: []string{"order-7-shipped"}}); err != nil {
		log.Fatal(err)
	}
	page, err := inbox.Read(ctx, 0, 10)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("unread:", page.Unread)
	for _, e := range page.Entries {
		fmt.Println(e.Kind, string(e.Message), e.Unread)
	}
	// Output:
	// unread: 1
	// order.shipped {"order":7} false
	// order.shipped {"order":8} true
}

// One call for all admins, each of whom has a read state of their own.
func ExampleHub_Audience() {
	ctx := context.Background()
	hub, err := parley.New(parley.Options{Authenticator: parley.AllowAnonymous})
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Shutdown(ctx)
	admins := hub.Audience("admins")
	if err := admins.Add(ctx, "user-1", "user-2"); err != nil {
		log.Fatal(err)
	}
	n, err := admins.Notify(ctx, "the disk is full", parley.WithKind("alert"))
	fmt.Println(n.Stored, err)
	// Output: 2 <nil>
}
