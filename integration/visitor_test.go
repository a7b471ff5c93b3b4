package integration

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// visitor is somebody who has the page of chatd open.
type visitor struct {
	*window
	user string // "" for an anonymous one
}

// report is what a page has noted: see chatd/web/page.js.
type report struct {
	Shown, Inbox, Broadcasts, Acks []line
	Failures                       []struct{ Text, Code string }
	Sent, Histories, Byes          int
	Gaps                           []struct {
		Topic, Epoch string
		Offset       int64
	}
	Errors     []any
	Missed     []int
	ClientIDs  []string
	CloseCodes []int
	Events     []struct {
		Type, Visibility, State string
		Persisted               bool
	}
	Lines                   []string
	State, ClientID, UserID string
}

// visit opens the page in a browser of its own, for an anonymous visitor if
// user is "". The query may set a backoff.
func visit(t *testing.T, browser context.Context, base, user, query string) *visitor {
	t.Helper()
	name := user
	if user == "" {
		name = "anonymous"
	}
	v := &visitor{user: user, window: open(t, browser, base+"away.html", name)}
	if user != "" {
		v.do(chromedp.Navigate(base + "as/" + user))
	}
	v.do(chromedp.Navigate(base + query))
	v.joined()
	return v
}

// tab opens the page in another tab of the same browser, visible too.
func (v *visitor) tab(base, name string) *visitor {
	v.t.Helper()
	ctx, cancel := chromedp.NewContext(v.ctx)
	v.t.Cleanup(cancel)
	other := &visitor{user: v.user, window: &window{t: v.t, ctx: ctx, name: name}}
	require.NoError(v.t, chromedp.Do(ctx, chromedp.Navigate("about:blank")))
	other.do(chromedp.Navigate(base))
	other.joined()
	return other
}

// duplicate opens the page from the page itself: the new one begins with a
// copy of the session storage, as when a user duplicates a tab.
func (v *visitor) duplicate(name string) *visitor {
	v.t.Helper()
	v.run(`sessionStorage.setItem("mark", "copied")`)
	found := chromedp.WaitNewTarget(v.ctx, func(info *target.Info) bool { return info.OpenerID != "" })
	v.do(chromedp.Evaluate[chromedp.Void]("void window.open(location.href)", func(p *runtime.EvaluateParams) {
		p.UserGesture = new(true) // else it counts as a popup
	}))
	var id target.ID
	select {
	case id = <-found:
	case <-time.After(patience):
		require.FailNow(v.t, "no new tab")
	}
	ctx, cancel := chromedp.NewContext(v.ctx, chromedp.WithTargetID(id))
	v.t.Cleanup(cancel)
	other := &visitor{user: v.user, window: &window{t: v.t, ctx: ctx, name: name}}
	require.NoError(v.t, chromedp.Do(ctx))
	other.joined()
	require.True(v.t, other.true(`sessionStorage.getItem("mark") === "copied"`))
	return other
}

// joined waits until the page is in the room.
func (v *visitor) joined() {
	v.t.Helper()
	v.wait(`window.page?.notes.histories > 0 && page.client.state === "connected"`)
}

func (v *visitor) report() report {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("page.report()"))
	require.NoError(v.t, err, "report of %s", v.name)
	var r report
	require.NoError(v.t, json.Unmarshal([]byte(text), &r))
	return r
}

func (v *visitor) talk() { v.run("page.talk(" + quote(v.name) + ")") }

// hears waits until the page has shown n more messages.
func (v *visitor) hears(n int) {
	v.t.Helper()
	v.run("window.heard = page.notes.shown.length")
	v.waitf("page.notes.shown.length >= heard + %d", n)
}

// lost waits until the page knows that its connection is gone.
func (v *visitor) lost() {
	v.t.Helper()
	v.wait(`page.client.state !== "connected"`)
}

// offline takes the network from the page, as far as a page can tell, or gives
// it back: meanwhile what is on its way waits, and new connections fail.
func (v *visitor) offline(off bool) {
	v.t.Helper()
	rules := []*network.Conditions{}
	if off {
		rules = append(rules, &network.Conditions{Offline: true, DownloadThroughput: -1, UploadThroughput: -1})
	}
	v.call(func(ctx context.Context) error {
		if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		// navigator.onLine and the events. First, so that what has waited comes after "online".
		if _, err := chromedp.Call(ctx, network.OverrideNetworkState, network.OverrideNetworkStateParams{
			Offline: off, DownloadThroughput: -1, UploadThroughput: -1,
		}); err != nil {
			return err
		}
		_, err := chromedp.Call(ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
			MatchedNetworkConditions: rules,
		})
		return err
	})
	v.waitf("navigator.onLine === %t", !off)
}

// front brings the page to the front of its window.
func (v *visitor) front() {
	v.t.Helper()
	v.call(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, page.BringToFront, struct{}{})
		return err
	})
	v.wait(`document.visibilityState === "visible"`)
}

// behind opens another tab in front of the page, which is hidden then.
func (v *visitor) behind() {
	v.t.Helper()
	ctx, cancel := chromedp.NewContext(v.ctx, chromedp.WithNewWindow(false))
	v.t.Cleanup(cancel)
	require.NoError(v.t, chromedp.Do(ctx, chromedp.Navigate("about:blank")))
	v.wait(`document.visibilityState === "hidden"`)
}

// frozen suspends the page, and lets it run again.
func (v *visitor) frozen(yes bool) {
	v.t.Helper()
	state := page.SetWebLifecycleStateStateActive
	if yes {
		state = page.SetWebLifecycleStateStateFrozen
	}
	v.call(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state})
		return err
	})
}

// call runs commands of the DevTools protocol.
func (v *visitor) call(f func(ctx context.Context) error) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	require.NoError(v.t, f(ctx), "window of %s", v.name)
}

// returns goes back in the history of the tab, to the page. Neither the
// beginning nor the end of that is an event for the tools when the page comes
// out of the cache, and in between there is no page to ask.
func (v *visitor) returns() {
	v.t.Helper()
	v.run("history.back()")
	for deadline := time.Now().Add(patience); ; <-time.After(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(v.ctx, time.Second)
		there, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`Boolean(window.page) && document.visibilityState === "visible"`))
		cancel()
		if err == nil && there {
			return
		}
		require.True(v.t, time.Now().Before(deadline), "the page of %s does not come back: %v", v.name, err)
	}
}

// agree waits until the pages are quiet, and then expects of each that it shows
// what the server has stored, exactly: nothing missing, doubled or out of order.
// The pages were there before the first message.
func agree(t *testing.T, tr *traffic, visitors ...*visitor) {
	t.Helper()
	tr.end()
	for _, v := range visitors {
		v.run("page.hush()")
		v.wait("page.notes.acks.length + page.notes.failures.length === page.notes.sent")
	}
	tr.mark(visitors...)
	room, all := stored(t, tr.server(), "room/lobby"), stored(t, tr.server(), "all")
	for _, v := range visitors {
		r := v.report()
		same(t, room, r.Shown, "messages that "+v.name+" shows")
		same(t, all, r.Broadcasts, "broadcasts that "+v.name+" got")
		if v.user != "" {
			same(t, stored(t, tr.server(), "user/"+v.user), r.Inbox, "notifications that "+v.name+" got")
		}
		onPage := []line{}
		for i, text := range r.Lines {
			onPage = append(onPage, line{Offset: int64(i) + 1, Text: text})
		}
		same(t, room, onPage, "the list on the page of "+v.name)
		assert.Empty(t, r.Gaps, "%s was told that messages are missing", v.name)
		assert.Empty(t, r.Errors, "errors on the page of %s", v.name)
		v.sentOnce(r, room)
		ids := slices.Compact(r.ClientIDs)
		assert.Equal(t, []string{r.ClientID}, ids, "%s is the same client all the time", v.name)
	}
}

// same compares messages, and shows the first difference only.
func same(t *testing.T, want, got []line, what string) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			window := func(l []line) []line { return l[min(i, len(l)):min(i+3, len(l))] }
			assert.Failf(t, what, "%d instead of %d; from the %d. on they are %v... instead of %v...",
				len(got), len(want), i+1, window(got), window(want))
			return
		}
	}
}

// sentOnce expects what the page has sent to be stored once each, where the
// answer said, and in the order of sending.
func (v *visitor) sentOnce(r report, room []line) {
	v.t.Helper()
	assert.Empty(v.t, r.Failures, "sends of %s", v.name)
	inLog := map[string]int{}
	for _, m := range room {
		inLog[m.Text]++
	}
	offsets := []int64{}
	for _, ack := range r.Acks {
		assert.Equal(v.t, 1, inLog[ack.Text], "%q of %s was acknowledged, and is stored once", ack.Text, v.name)
		assert.Contains(v.t, room, ack, "%s was told where its message is", v.name)
		offsets = append(offsets, ack.Offset)
	}
	assert.True(v.t, slices.IsSorted(offsets), "what %s has sent is stored in the order of sending: %v", v.name, offsets)
}
