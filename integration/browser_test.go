package integration

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience bounds every wait. It is no assertion about speed:
// machines that run tests are slow at times.
const patience = 3 * time.Minute

// browsers has a place for each Chromium that may run at a time: they compute more than all other tests.
var browsers = make(chan struct{}, 2)

// browser starts a headless Chromium of its own.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := need(t, "chromium")
	browsers <- struct{}{}
	t.Cleanup(func() { <-browsers })
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.WindowSize(1200, 800),
		chromedp.WSURLReadTimeout(patience),
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	// The first call starts the browser, which lives as long as its context: no timeout.
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate("about:blank")))
	return ctx
}

// window is a page with storage of its own, as in a second browser.
type window struct {
	t    *testing.T
	ctx  context.Context
	name string
}

func open(t *testing.T, browser context.Context, url, name string) *window {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	w := &window{t: t, ctx: ctx, name: name}
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate("about:blank"))) // likewise
	w.do(chromedp.Navigate(url))
	return w
}

// do runs actions in the window.
func (w *window) do(actions ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		w.picture()
		require.NoError(w.t, err, "window of %s", w.name)
	}
}

// run runs JavaScript in the window.
func (w *window) run(script string) {
	w.t.Helper()
	w.do(chromedp.Evaluate[chromedp.Void](script))
}

// true evaluates a JavaScript expression.
func (w *window) true(expression string) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
	require.NoError(w.t, err, "window of %s: %s", w.name, expression)
	return ok
}

// wait waits until a JavaScript expression is true. What it is about may not be in the page yet.
func (w *window) wait(expression string) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		if w.true("(() => { try { return (" + expression + ") } catch (e) { if (e instanceof SyntaxError) throw e; return false } })()") {
			return
		}
		if time.Now().After(deadline) {
			w.picture()
			require.FailNow(w.t, "condition never true", "window of %s: %s\n%s", w.name, expression, w.notes())
		}
		// Not a wait for a time: the browser is asked again, without flooding it.
		<-time.After(50 * time.Millisecond)
	}
}

// notes is what the page of chatd has noted, without the long lists.
func (w *window) notes() string {
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`window.page ? page.state() : "not the page of chatd"`))
	return fmt.Sprint(text, " ", err)
}

// waitf is wait for a format of an expression.
func (w *window) waitf(format string, args ...any) {
	w.t.Helper()
	w.wait(fmt.Sprintf(format, args...))
}

// picture saves what the window shows, for whoever looks into a failure.
func (w *window) picture() {
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return
	}
	if f, err := os.CreateTemp("", "parley-"+w.name+"-*.png"); err == nil {
		_, _ = f.Write(png)
		_ = f.Close()
		w.t.Logf("screenshot: %s", f.Name())
	}
}

// enter gives the name at the welcome dialog.
func (w *window) enter() {
	w.t.Helper()
	w.wait(`document.body.dataset.ready !== undefined`)
	w.do(
		chromedp.SetValue(chromedp.CSS("#name-input"), w.name),
		chromedp.Click(chromedp.CSS("#name-submit")),
	)
	w.wait(`document.body.dataset.connection === "connected"`)
}

// say sends a text to the conversation in view, and waits until it is stored.
func (w *window) say(text string) {
	w.t.Helper()
	w.do(
		chromedp.SendKeys(chromedp.CSS("#text"), text),
		chromedp.Click(chromedp.CSS("#send")),
	)
	w.wait(shows(text) + ` && document.querySelector('#log .message[data-state="sending"]') === null`)
}

// shows is an expression: the conversation in view has this text, exactly once.
func shows(text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#log .message .text")].filter((e) => e.textContent === %s).length === 1`, quote(text))
}

// Two people chat in real windows, privately too; the server restarts, and both come back by themselves.
func TestTwoWindowsChat(t *testing.T) {
	t.Parallel()
	chromium := browser(t)
	binary := buildExample(t, "chat")
	server := start(t, binary, "0")

	kim, lee := open(t, chromium, server.url, "kim"), open(t, chromium, server.url, "lee")
	kim.enter()
	lee.enter()

	kim.say("hello lee")
	lee.wait(shows("hello lee"))
	lee.say("hello kim")
	kim.wait(shows("hello kim"))

	// S34: what a user types is never HTML.
	const evil = `<img src=x onerror="window.pwned=1">`
	kim.say(evil)
	lee.wait(shows(evil))
	lee.wait(`window.pwned === undefined && document.querySelector("#log img") === null`)

	const person = `[...document.querySelectorAll("#people button[data-user]")].find((b) => b.textContent.includes("lee"))`
	kim.wait(person)
	kim.run(person + ".click()")
	kim.wait(`document.querySelector("#log").dataset.conversation.startsWith("user:")`)
	kim.say("just for you")
	const conversation = `document.querySelector('#conversations button[data-conversation^="user:"]')`
	lee.wait(conversation)
	lee.run(conversation + ".click()")
	lee.wait(shows("just for you"))

	server.stop(t)
	kim.wait(`document.body.dataset.connection !== "connected"`)
	lee.wait(`document.body.dataset.connection !== "connected"`)
	start(t, binary, server.port)
	for _, w := range []*window{kim, lee} {
		w.wait(`document.body.dataset.connection === "connected"`)
		w.run(`document.querySelector('#conversations button[data-conversation^="room:"]').click()`)
	}
	kim.say("we are back")
	lee.wait(shows("we are back"))
}
