package integration

import (
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// scene is a server, a wire to it, traffic, and two visitors: one with a name, one without.
type scene struct {
	t       *testing.T
	host    *host
	wire    *wire
	traffic *traffic
	kim     *visitor
	guest   *visitor
}

func (s *scene) visitors() []*visitor { return []*visitor{s.kim, s.guest} }

// each runs f for both visitors.
func (s *scene) each(f func(v *visitor)) {
	for _, v := range s.visitors() {
		f(v)
	}
}

// noTimer makes the client wait for up to eleven days before it tries again by
// itself: who comes back was woken.
const noTimer = "?backoff=1000000000"

// No message is missing or doubled in a page, whatever happens to it, its
// network or its server. While it happens, the application and the pages go on sending.
func TestPagesMissNothing(t *testing.T) {
	t.Parallel()
	chromium := browser(t)
	for _, tc := range []struct {
		name  string
		query string
		run   func(s *scene)
	}{
		{name: "the server is killed and starts again (F23)", run: killed},
		{name: "the server is stopped in order (F36)", run: stopped},
		{name: "offline, and the connection is still there", run: offline},
		{name: "offline, and the connection has died without a word (F2)", run: silenced},
		{name: "hidden while the connection dies", query: noTimer, run: hidden},
		{name: "frozen while the server restarts (F41)", query: noTimer, run: frozen},
		{name: "in the back-forward cache", query: noTimer, run: cached},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &scene{t: t, host: newHost(t)}
			s.wire = newWire(t, s.host.server())
			s.kim = visit(t, chromium, s.wire.url, "kim", tc.query)
			s.guest = visit(t, chromium, s.wire.url, "", tc.query)
			s.traffic = startTraffic(t, s.host.server, "kim")
			s.each(func(v *visitor) {
				v.talk()
				v.hears(10)
			})
			tc.run(s)
			agree(t, s.traffic, s.visitors()...)
		})
	}
}

func killed(s *scene) {
	for range 5 {
		s.host.crash()
		s.each((*visitor).lost)
		s.host.start()
		s.each(func(v *visitor) { v.hears(10) })
	}
}

func stopped(s *scene) {
	s.host.server().stop(s.t)
	s.each((*visitor).lost)
	s.host.start()
	s.each(func(v *visitor) {
		v.hears(10)
		r := v.report()
		require.Equal(s.t, 1, r.Byes, "%s was told to come back", v.name)
		require.Equal(s.t, 4000, r.CloseCodes[0], "how the connection of %s ended", v.name)
	})
}

func offline(s *scene) {
	s.each(func(v *visitor) { v.offline(true) })
	s.traffic.more(30)
	s.each(func(v *visitor) { v.offline(false) })
	s.each(func(v *visitor) {
		v.hears(30)
		require.Len(s.t, v.report().ClientIDs, 1, "the connection of %s was good", v.name)
	})
}

// F3: the connection that the server still believes in is replaced.
func silenced(s *scene) {
	s.each(func(v *visitor) { v.offline(true) })
	s.traffic.more(10) // on its way: it comes late, and is no sign of life
	s.wire.silence()
	s.traffic.more(30)
	s.each(func(v *visitor) { v.offline(false) })
	s.each(func(v *visitor) {
		v.hears(30)
		r := v.report()
		require.Equal(s.t, []string{r.ClientID}, clients(s.t, s.host.server(), r.UserID), "connections of %s", v.name)
	})
}

func hidden(s *scene) {
	s.each((*visitor).behind)
	s.wire.cut()
	s.each((*visitor).lost)
	s.traffic.more(120) // more than the history of a room shows at first
	s.wire.mend()
	s.each(func(v *visitor) {
		require.True(s.t, v.true(`document.visibilityState === "hidden" && page.client.state === "waiting"`))
		v.front()
		v.hears(30)
	})
}

func frozen(s *scene) {
	s.each(func(v *visitor) {
		v.behind()
		v.frozen(true)
	})
	s.traffic.more(30)
	s.host.crash()
	s.host.start()
	s.traffic.more(30)
	s.each(func(v *visitor) {
		v.frozen(false)
		v.front()
		v.hears(60)
		types := []string{}
		for _, e := range v.report().Events {
			types = append(types, e.Type)
		}
		require.Subset(s.t, types, []string{"freeze", "resume"}, "what happened to the page of %s", v.name)
	})
}

// A page in the back-forward cache is kept as it is, for minutes. It must not
// keep a connection, which the browser would hold without reading from it,
// and which makes the user present who is not there.
func cached(s *scene) {
	for _, restart := range []bool{false, true} {
		s.each(func(v *visitor) {
			before := v.report()
			v.do(chromedp.Navigate(s.wire.url + "away.html"))
			s.gone(before.UserID, before.ClientID)
		})
		if restart {
			s.host.crash()
			s.host.start()
		}
		s.traffic.more(30)
		s.each(func(v *visitor) {
			v.returns()
			v.hears(30)
			events := v.report().Events
			last := events[len(events)-1]
			require.Equal(s.t, "pageshow", last.Type)
			require.True(s.t, last.Persisted, "the page of %s came out of the cache, not anew", v.name)
		})
	}
}

// gone waits until a client has no connection, as the server believes.
func (s *scene) gone(user, id string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		if !slices.Contains(clients(s.t, s.host.server(), user), id) {
			return
		}
		require.True(s.t, time.Now().Before(deadline), "%s is still connected", user)
	}
}

// F68: tabs of one user, also one that begins as a copy of another, are
// clients of their own, and each gets everything once.
func TestTabsOfOneUser(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := visit(t, browser(t), h.server().url, "kim", "")
	tabs := []*visitor{first, first.tab(h.server().url, "kim in tab 2"), first.duplicate("kim in tab 3")}
	tr := startTraffic(t, h.server, "kim")
	for round := range 2 {
		tabs[round].talk()
		ids := []string{}
		for _, v := range tabs {
			v.hears(10)
			ids = append(ids, v.report().ClientID)
		}
		require.ElementsMatch(t, ids, clients(t, h.server(), "kim"), "round %d", round)
		if round == 0 {
			h.crash()
			for _, v := range tabs {
				v.lost()
			}
			h.start()
		}
	}
	agree(t, tr, tabs...)
}

// F11, F66: the server comes back with an empty disk. The page is told, shows
// what there is now, and goes on.
func TestServerLosesItsStore(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	v := visit(t, browser(t), h.server().url, "kim", "")
	tr := startTraffic(t, h.server, "kim")
	v.hears(50)
	h.crash()
	v.lost()
	h.lose()
	h.start()
	v.hears(10)
	tr.end()
	tr.mark(v)
	r := v.report()
	same(t, stored(t, h.server(), "room/lobby"), r.Shown, "messages shown")
	same(t, stored(t, h.server(), "user/kim"), r.Inbox, "notifications")
	topics := []string{}
	for _, g := range r.Gaps {
		topics = append(topics, g.Topic)
	}
	require.ElementsMatch(t, []string{"room", "inbox", "broadcast"}, topics, "told once for each topic")
}
