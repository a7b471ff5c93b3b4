package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/adapters/redisstore/redistest"
)

// onNode is an expression: the page is connected to a node.
const onNode = `document.body.dataset.connection === "connected" && Boolean(document.body.dataset.node)`

// on returns the node that the window is connected to.
func (w *window) on() string {
	w.t.Helper()
	w.wait(onNode)
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	node, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.dataset.node"))
	require.NoError(w.t, err)
	return node
}

// show keeps a picture of the window in the directory of PARLEY_PICTURES, as wide as a desktop, and as a phone.
func (w *window) show(name string) {
	w.t.Helper()
	for suffix, size := range map[string][2]int64{"": {1200, 800}, "-phone": {390, 780}} {
		w.do(chromedp.EmulateViewport(size[0], size[1]))
		w.waitf("innerWidth === %d", size[0])
		w.keep(name + suffix)
	}
	w.do(chromedp.EmulateViewport(1200, 800))
}

// keep keeps one picture, when nothing moves.
func (w *window) keep(name string) {
	w.t.Helper()
	dir := os.Getenv(pictures)
	if dir == "" {
		dir = w.t.TempDir()
	}
	w.wait("document.getAnimations().length === 0")
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	require.NoError(w.t, err)
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, "cluster-"+name+".png"), png, 0o644))
}

// withArguments returns a program that runs binary with arguments.
func withArguments(t *testing.T, binary, arguments string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "run")
	require.NoError(t, os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec %q %s\n", binary, arguments), 0o755))
	return script
}

// needRedis skips the test if no Redis server is installed, unless PARLEY_REQUIRE says that one must be.
func needRedis(t *testing.T) {
	t.Helper()
	if redistest.Installed() {
		return
	}
	const missing = "SKIPPED: neither redis-server nor valkey-server is installed; this test did not run"
	if slices.Contains(strings.Split(os.Getenv("PARLEY_REQUIRE"), ","), "redis") {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// F23: two people chat on two nodes. That of one is killed by the button in the other's window; both go on, and nothing is
// missing or there twice.
func TestNodeIsKilledUnderWindow(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"redis", "nats"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			if engine == "redis" {
				needRedis(t)
			}
			chromium := browser(t)
			server := start(t, withArguments(t, buildExample(t, "cluster"), "-restart=3s -engine="+engine), "0")
			kim, lee := open(t, chromium, server.url, "kim"), open(t, chromium, server.url, "lee")
			kim.enter()
			from := kim.on()
			lee.enter()
			require.NotEqual(t, from, lee.on(), "the nodes take turns")

			kim.say("hello lee")
			lee.wait(shows("hello lee"))
			lee.say("hello kim")
			kim.wait(shows("hello kim"))
			kim.waitf(`document.querySelectorAll("#people-list li").length === 2`)
			lee.do(chromedp.SendKeys(chromedp.CSS("#text"), "typ"))
			kim.wait(`document.querySelector("#typing").textContent === "lee is typing"`)
			kim.show(engine + "-chat")
			lee.run(`document.querySelector("#text").value = ""`)

			lee.wait(`document.querySelector('.node[data-node="` + from + `"] .kill:not(:disabled)')`)
			lee.do(chromedp.Click(chromedp.CSS(`.node[data-node="` + from + `"] .kill`)))
			lee.wait(`document.querySelector('.node[data-node="` + from + `"][data-state=down]')`)
			for i := range 3 {
				lee.say(fmt.Sprintf("lee %d", i))
			}
			kim.waitf(`%s && document.body.dataset.node !== %s`, onNode, quote(from))
			kim.show(engine + "-killed")
			for i := range 3 {
				kim.wait(shows(fmt.Sprintf("lee %d", i)))
				kim.say(fmt.Sprintf("kim %d", i))
				lee.wait(shows(fmt.Sprintf("kim %d", i)))
			}
			kim.wait(`document.querySelector("#log").textContent.match(/nothing was missed|none is missing/)`)

			// Both show the same, each once.
			texts := []string{"hello lee", "hello kim", "lee 0", "lee 1", "lee 2", "kim 0", "kim 1", "kim 2"}
			for _, w := range []*window{kim, lee} {
				for _, text := range texts {
					w.wait(shows(text))
				}
				w.waitf(`document.querySelectorAll("#log .message").length === %d`, len(texts))
				w.wait(`((offsets) => offsets.every((n, i) => n === i + 1))([...document.querySelectorAll("#log .message")].map((e) => Number(e.dataset.offset)))`)
				w.waitf(`document.querySelectorAll("#people-list li").length === 2`)
			}
			lee.wait(`document.querySelector('.node[data-node="` + from + `"][data-state=ready]')`)
			lee.keep(engine + "-back")
			lee.do(chromedp.EmulateViewport(390, 780))
			lee.keep(engine + "-back-phone") // a frame later the page knows that it is narrow
			lee.do(chromedp.Click(chromedp.CSS("#strip")))
			lee.wait(`document.activeElement.id === "sidebar-close" && document.querySelector("#app > main").inert`)
			lee.keep(engine + "-nodes-phone")
			lee.do(chromedp.Click(chromedp.CSS("#sidebar-close")))
			lee.wait(`document.activeElement.id === "menu-toggle"`)
			server.stop(t)
		})
	}
}
