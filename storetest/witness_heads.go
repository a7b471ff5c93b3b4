package storetest

import (
	"context"

	"github.com/parley-go/parley"
)

func (w *witness) Heads(ctx context.Context, topics []string) ([]parley.Head, error) {
	r := w.record
	r.tb.Helper()
	known := map[string]before{}
	for _, topic := range topics {
		known[topic] = r.begin(topic)
	}
	list, err := w.Store.Heads(ctx, topics)
	if err != nil || len(list) != len(topics) {
		return list, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, h := range list {
		b, topic := known[topics[i]], topics[i]
		if h == (parley.Head{}) {
			continue // nothing was appended, or the log was dropped
		}
		r.log(b, "Heads", topic, h.Log, false)
		r.exact(b, "Heads", topic, h.Log, h.Top)
		if top := b.top[h.Epoch]; h.Top < top {
			r.tb.Errorf("Heads: Top of %q fell from %d to %d within epoch %q", topic, top, h.Top, h.Epoch)
		}
		log := incarnation{topic, h.Epoch}
		r.top[log] = max(r.top[log], h.Top)
	}
	return list, nil
}

func (w *witness) Status(ctx context.Context, userIDs []string) ([]parley.UserStatus, error) {
	r := w.record
	r.tb.Helper()
	list, err := w.Store.Status(ctx, userIDs)
	if err != nil {
		return list, err
	}
	if len(list) != len(userIDs) {
		r.tb.Errorf("Status of %d users: %d answers", len(userIDs), len(list))
	}
	for i, u := range list {
		switch {
		case u.Online && (u.Since == 0 || u.LastSeen < u.Since), !u.Online && u.Since != 0:
			r.tb.Errorf("Status of %.50q: %+v: Since is set for who is online, and not after LastSeen", userIDs[i], u)
		case u.LastSeen != 0 && (u.LastSeen < earliest || u.LastSeen > latest):
			r.tb.Errorf("Status of %.50q: %+v: times are in milliseconds since 1970", userIDs[i], u)
		}
	}
	return list, nil
}

// What any clock may show, also that of a testing/synctest bubble, in milliseconds: 1999 to 2286.
const earliest, latest = 920_000_000_000, 9_999_999_999_999

// AppendPublish is called only if the Store has it.
func (w *witness) AppendPublish(ctx context.Context, topic string, keep parley.Retention, entries []parley.Entry, payload []byte) (parley.Log, error) {
	w.record.tb.Helper()
	return w.record.append(topic, entries, func() (parley.Log, error) {
		return w.Store.(parley.AppendPublisher).AppendPublish(ctx, topic, keep, entries, payload)
	})
}
