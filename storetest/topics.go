package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

// oddNames are names that mean something to some server or language, or that
// are alike in some way of comparing.
func oddNames() []string {
	return []string{
		"a", "A", "a ", " a", "a\t", "\u00a0a", "\ufeffa",
		"a:b", "a:b:c", "a::b", ":", "a/b", "/a", "a/", "//", ".", "..", "../a", "a.b", "a.>", ">", "a.*",
		"{a}", "{a}:b", "a}", "{", "}", "{}", "*", "a*", "?", "[a]", "[a-z]", "$a", "$1", "#", "a,b", "a|b", "a=b", "a&b",
		"%", "%s", "%61", "%00", "_", "a_b", "'", "''", `"`, "`", ";--", "--", `\`, `\\`, `\a`, "\\x61", "0", "00", "-1", "nil", "NULL",
		"a\nb", "a\r\nb", "\n", "a\x00", "a\x00b", "\x00", "\x7f", "é", "e\u0301", "É", "ß", "ss", "ſ", "ı", "i", "ﬀ", "ff", "\u202ea", "🙂",
	}
}

var topicCases = []storeCase{
	// S10, S38: names come from users and must not reach another topic or a key of the store.
	{name: "Topic/names are opaque and kept apart from each other (S10, S38)", run: func(e *env) {
		var topics []string
		for _, odd := range oddNames() {
			topics = append(topics, e.prefix+odd, odd+e.prefix)
		}
		e.checkApart(topics)
	}},
	{name: "Topic/names have up to 300 bytes", run: func(e *env) {
		fill := func(s, end string) string {
			return e.prefix + strings.Repeat(s, (300-len(e.prefix)-len(end))/len(s)) + end
		}
		e.checkApart([]string{
			fill("x", "1"), fill("x", "2"), fill("x", ""), fill("x", "")[:299], fill("x", "")[:255], fill("x", "")[:256],
			fill("é", ""), fill("é", "e"), fill(":", "a"), fill(":", "b"), fill("\x00", ""), fill("/", "*"),
		})
	}},
	// Names that an implementation may have for what belongs to a topic.
	{name: "Topic/names are kept apart from the store's own keys (S38)", run: func(e *env) {
		base := e.topic()
		topics := []string{base}
		for _, part := range []string{"epoch", "top", "offset", "seq", "log", "stream", "meta", "keys", "key", "idem", "members", "presence", "nodes", "n1", "1", "2"} {
			for _, sep := range []string{":", "/", ".", "\x00", "-"} {
				topics = append(topics, base+sep+part, part+sep+base)
			}
		}
		e.checkApart(topics)
	}},
}

// checkApart uses every one of topics for everything, and then looks for
// traces of any in another.
func (e *env) checkApart(topics []string) {
	e.Helper()
	for i, topic := range topics {
		own := fmt.Sprintf("%d", i)
		entries := []parley.Entry{keyed(i, "key"), keyed(1000+i, own)}
		entries[i%2].Unread = true
		e.append(topic, keep(10), entries...)
		e.mark(topic, parley.Mark{As: parley.MarkArchived, Keys: []string{own}})
		e.enter(topic, "n1", long, users(own)...)
	}
	for i, topic := range topics {
		own := fmt.Sprintf("%d", i)
		for node, s := range e.nodes() {
			page := e.read(s, topic, everything)
			require.EqualValuesf(e, 2, page.Top, "Top of %.320q on %s", topic, node)
			require.Equalf(e, []string{string(message(i).Data), string(message(1000 + i).Data)}, bodies(page.Entries),
				"the log of %.320q on %s", topic, node)
			require.Equalf(e, 1-i%2, page.Unread, "Unread of %.320q on %s", topic, node)
		}
		list, count, err := e.peer.Members(context.Background(), topic, 10)
		require.NoErrorf(e, err, "Members of %.320q", topic)
		require.Equalf(e, users(own), list, "the room of %.320q", topic)
		require.Equalf(e, 1, count, "the count of %.320q", topic)
	}
}

var contextCases = []storeCase{
	// F9: a store that hangs must not hang its callers.
	{name: "Context/every method honours ctx (F9)", run: func(e *env) {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		topic := e.topic()
		calls := map[string]func(ctx context.Context) error{
			"Append": func(ctx context.Context) error {
				_, err := e.store.Append(ctx, topic, keep(5), messages(1, 1))
				return err
			},
			"Read": func(ctx context.Context) error {
				_, err := e.store.Read(ctx, topic, everything)
				return err
			},
			"Mark": func(ctx context.Context) error {
				_, err := e.store.Mark(ctx, topic, parley.Mark{As: parley.MarkRead, Keys: []string{"key"}})
				return err
			},
			"Overdue": func(ctx context.Context) error {
				_, err := e.store.Overdue(ctx, 1, long)
				return err
			},
			"AddUsers": func(ctx context.Context) error {
				return e.store.AddUsers(ctx, topic, []string{"a"})
			},
			"RemoveUsers": func(ctx context.Context) error {
				return e.store.RemoveUsers(ctx, topic, []string{"a"})
			},
			"Users": func(ctx context.Context) error {
				_, err := e.store.Users(ctx, topic, "", 5)
				return err
			},
			"Heads": func(ctx context.Context) error {
				_, err := e.store.Heads(ctx, []string{topic})
				return err
			},
			"Connect": func(ctx context.Context) error {
				return e.store.Connect(ctx, topic, []string{topic}, long)
			},
			"Disconnect": func(ctx context.Context) error {
				return e.store.Disconnect(ctx, topic, []string{topic})
			},
			"Status": func(ctx context.Context) error {
				_, err := e.store.Status(ctx, []string{topic})
				return err
			},
			"Enter": func(ctx context.Context) error {
				return e.store.Enter(ctx, topic, "n1", users("a"), long)
			},
			"Leave": func(ctx context.Context) error {
				return e.store.Leave(ctx, topic, "n1", []string{"a"})
			},
			"Members": func(ctx context.Context) error {
				_, _, err := e.store.Members(ctx, topic, 5)
				return err
			},
		}
		for name, call := range calls {
			err := call(ended)
			require.Errorf(e, err, "%s with a ctx that has ended", name)
			require.Truef(e, errors.Is(err, context.Canceled), "%s with a ctx that has ended: %v should wrap context.Canceled", name, err)
		}
		for name, call := range calls {
			require.NoErrorf(e, call(context.Background()), "%s with a good ctx, after others had ended", name)
		}
	}},
}
