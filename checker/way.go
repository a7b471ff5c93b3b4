package checker

import (
	"context"
	"strconv"
	"sync/atomic"

	"github.com/parley-go/parley"
)

// way is that of one hub to Store and Broker. When the node is dead, nothing passes any more.
type way struct {
	*storeOf
	*brokerOf // nil with one node
	dead      atomic.Bool
}

// newWay makes the way of a hub.
func (w *world) newWay(node int) *way {
	v := &way{}
	var store parley.Store
	var broker parley.Broker
	if w.backend != nil {
		store, broker = w.backend.Store(node), w.backend.Broker(node)
	}
	v.storeOf = &storeOf{store: w.store, given: store, dead: &v.dead}
	if w.broker != nil {
		v.brokerOf = w.broker.via(node, broker, &v.dead)
	}
	return v
}

// given is the Store that the backend has given, if it has.
func (v *way) given() parley.Store { return v.storeOf.given }

// apply gives it to a hub: as one value, if it appends and publishes in one step.
func (v *way) apply(o *parley.Options, inOneStep bool) {
	if v.brokerOf == nil {
		o.Store = v.storeOf
		return
	}
	_, given := v.storeOf.given.(parley.AppendPublisher)
	if given && any(v.storeOf.given) == any(v.brokerOf.given) || inOneStep && v.storeOf.given == nil && v.brokerOf.given == nil {
		one := &oneStep{v}
		o.Store, o.Broker = one, one
		return
	}
	o.Store, o.Broker = v.storeOf, v.brokerOf
}

// oneStep is Store and Broker in one, which can append and publish in one step.
type oneStep struct{ *way }

var _ interface {
	parley.Store
	parley.Broker
	parley.Resetter
	parley.AppendPublisher
} = oneStep{}

// AppendPublish implements parley.AppendPublisher. The faults are those of both.
func (v oneStep) AppendPublish(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
	return v.appending(ctx, topic, entries, func(ctx context.Context, inner parley.Store, entries []parley.Entry) (parley.Log, error) {
		fault := v.brokerOf.now(v.node)
		silent := fault == brokerFailing || fault == brokerStuck || fault == brokerPartition || fault == brokerCut
		if silent || v.storeOf.given == nil {
			log, err := v.appendTo(ctx, inner, topic, keep, entries)
			if head := positions(log, entries); err == nil && !silent && head != nil {
				_ = v.MemoryBroker.Publish(context.WithoutCancel(ctx), topic, append(head, payload...)) // fails only with its context
			}
			return log, err
		}
		log, err := v.storeOf.given.(parley.AppendPublisher).AppendPublish(ctx, topic, keep, entries, payload)
		if err == nil {
			v.took(topic, log, entries)
		}
		return log, err
	})
}

// positions is what comes before a payload, nil if nothing new was stored.
func positions(log parley.Log, entries []parley.Entry) []byte {
	head := strconv.AppendInt(nil, int64(log.Unread), 10)
	head = append(head, ' ')
	head = append(strconv.AppendInt(head, log.Version, 10), ' ')
	stored := false
	for i, e := range entries {
		if i > 0 {
			head = append(head, ',')
		}
		offset := e.Offset
		if e.Duplicate {
			offset = 0
		}
		stored = stored || !e.Duplicate
		head = strconv.AppendInt(head, offset, 10)
	}
	if !stored {
		return nil
	}
	return append(append(append(head, ' '), log.Epoch...), '\n')
}
