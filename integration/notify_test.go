package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// pictures is the variable that says in which directory pictures of the shop are kept.
const pictures = "PARLEY_PICTURES"

// shopper is a window of examples/notify.
type shopper struct {
	*window
	base string
}

// shops opens a window on a device of its own, and logs in.
func shops(t *testing.T, browser context.Context, base, name, device string) *shopper {
	t.Helper()
	s := &shopper{open(t, browser, base+"login", device), base}
	s.wait(`document.querySelector("#login-name")`)
	s.do(chromedp.SendKeys(chromedp.CSS("#login-name"), name+kb.Enter))
	s.arrives("orders")
	s.live()
	return s
}

func (s *shopper) live() {
	s.t.Helper()
	s.wait(`document.body.dataset.connection === "connected"`)
}

// visit goes to a page of the shop.
func (s *shopper) visit(path string) {
	s.t.Helper()
	s.do(chromedp.Navigate(s.base + path))
	s.live()
}

// arrives waits until the window is at a page of this name. On its way there is no page to ask at times.
func (s *shopper) arrives(page string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		there, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.body?.dataset.page === `+quote(page)+` && document.readyState === "complete"`))
		cancel()
		if err == nil && there {
			return
		}
		require.True(s.t, time.Now().Before(deadline), "the window of %s does not get to %s: %v", s.name, page, err)
	}
}

// leave closes the page: the window has no connection any more.
func (s *shopper) leave() {
	s.t.Helper()
	s.do(chromedp.Navigate("about:blank"))
}

func (s *shopper) click(selector string) {
	s.t.Helper()
	s.waitf(`document.querySelector(%s)?.disabled !== true && document.querySelector(%[1]s) !== null`, quote(selector))
	s.do(chromedp.Click(chromedp.CSS(selector)))
}

// unread waits until the badge, its label and the title of the window say n.
func (s *shopper) unread(n int) {
	s.t.Helper()
	label, title, count := "Notifications", "", fmt.Sprint(n)
	if n > 99 {
		count = "99+"
	}
	if n > 0 {
		label, title = fmt.Sprintf("Notifications, %d unread", n), fmt.Sprintf("(%d) ", n)
	}
	s.waitf(`(({ hidden, textContent }) => hidden === %t && (hidden || textContent === %s))(document.querySelector("#bell-count"))
		&& document.querySelector("#bell").getAttribute("aria-label") === %s
		&& document.title === %s + document.body.dataset.title`, n == 0, quote(count), quote(label), quote(title))
}

// lists waits until a list shows items that end in these texts, and no others, in this state.
func (s *shopper) lists(list, state string, texts ...string) {
	s.t.Helper()
	wanted := ""
	for _, text := range texts {
		wanted += quote(text) + ", "
	}
	s.waitf(`((items, wanted) => items.length === wanted.length && items.every((text, i) => text.endsWith(wanted[i])))(
		[...document.querySelectorAll("%s .item[data-state=%s] .text")].map((e) => e.textContent), [%s])`, list, state, wanted)
}

func (s *shopper) order(item string) {
	s.t.Helper()
	s.do(chromedp.SendKeys(chromedp.CSS("#order-item"), item+kb.Enter))
	s.waitf(`[...document.querySelectorAll("#orders .what a")].some((e) => e.textContent === %s)`, quote(item))
}

// ship ships the oldest order that waits.
func (s *shopper) ship() {
	s.t.Helper()
	s.wait(`document.querySelector("#orders .ship")`)
	s.run(`(() => { const [last] = [...document.querySelectorAll("#orders .ship")].slice(-1); window.row = last.closest("li").dataset.order; last.click(); })()`)
	s.wait(`document.querySelector('#orders li[data-order="' + row + '"]').dataset.status === "shipped"`)
}

func (s *shopper) announce(text string) {
	s.t.Helper()
	s.do(chromedp.SendKeys(chromedp.CSS("#announce-text"), text+kb.Enter))
	s.wait(`document.querySelector("#announce-text").value === ""`)
}

// photo keeps a picture of the window.
func (s *shopper) photo(name string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	require.NoError(s.t, err)
	dir := os.Getenv(pictures)
	if dir == "" {
		dir = s.t.TempDir()
	}
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, "notify-"+name+".png"), png, 0o644))
}

// F33: what is read on one device is read on the other, whichever way it was read.
func TestInboxOnTwoDevices(t *testing.T) {
	t.Parallel()
	chromium := browser(t)
	server := start(t, buildExample(t, "notify"), "0", "DB="+filepath.Join(t.TempDir(), "shop.db"))
	laptop, phone := shops(t, chromium, server.url, "alice", "laptop"), shops(t, chromium, server.url, "alice", "phone")
	staff := shops(t, chromium, server.url, "staff", "staff")
	phone.do(chromedp.EmulateViewport(390, 780))
	phone.visit("inbox")

	// S34: what a user types is never HTML.
	const evil = `<img src=x onerror="window.pwned=1">`
	for i, item := range []string{"teapot", "cup", evil} {
		laptop.order(item)
		staff.unread(i + 1)
	}
	for range 3 {
		staff.ship()
	}
	laptop.unread(3)
	phone.unread(3)
	phone.lists("#items", "unread", evil+", is on its way.", "cup, is on its way.", "teapot, is on its way.")
	phone.photo("inbox")

	// By a button of the list. The focus stays where it was.
	phone.run(`document.querySelector("#items .item:last-child [data-action=read]").focus()`)
	phone.do(chromedp.KeyEvent(kb.Enter))
	phone.lists("#items", "read", "teapot, is on its way.")
	phone.wait(`document.activeElement.closest("#items .item:last-child")`)
	laptop.unread(2)

	// By keyboard, in the bell.
	laptop.run(`document.querySelector("#bell").focus()`)
	laptop.do(chromedp.KeyEvent(kb.Enter))
	laptop.wait(`!document.querySelector("#bell-panel").hidden && document.activeElement.id === "bell-panel"`)
	laptop.lists("#bell-items", "unread", evil+", is on its way.", "cup, is on its way.")
	laptop.photo("bell")
	laptop.do(chromedp.KeyEvent(kb.Escape))
	laptop.wait(`document.querySelector("#bell-panel").hidden && document.activeElement.id === "bell"`)

	// By looking at the order itself.
	laptop.click(`#orders li[data-order="2"] a`)
	laptop.arrives("order")
	laptop.unread(1)
	laptop.photo("order")
	phone.unread(1)
	phone.lists("#items", "read", "cup, is on its way.", "teapot, is on its way.")

	// Put away on one device, and taken back on the other.
	phone.click(`#items .item[data-state=unread] [data-action=archive]`)
	phone.unread(0)
	phone.click(`[data-show=archived]`)
	phone.lists("#items", "archived", evil+", is on its way.")
	laptop.visit("inbox")
	laptop.unread(0)
	laptop.click(`[data-show=archived]`)
	laptop.click(`#items [data-action=unread]`)
	laptop.unread(1)
	phone.unread(1)
	phone.wait(`document.querySelector("#items .item") === null`)
	laptop.click("#read-all")
	phone.unread(0)
	for _, w := range []*shopper{laptop, phone, staff} {
		require.True(t, w.true(`window.pwned === undefined && document.querySelector("main li img, .toast img") === null`))
	}

	// The end of a session is the end of its windows, and of no others.
	phone.click("#logout")
	phone.arrives("login")
	laptop.live()
}

// F34: orders, inbox, counts and logins survive kill -9. Windows that are open come
// back by themselves, as the clients that they were, and what was sent while nobody was there is there.
func TestInboxSurvivesACrash(t *testing.T) {
	t.Parallel()
	chromium := browser(t)
	binary, db, port := buildExample(t, "notify"), "DB="+filepath.Join(t.TempDir(), "shop.db"), quietPort(t)
	server := start(t, binary, port, db)
	laptop, phone := shops(t, chromium, server.url, "alice", "laptop"), shops(t, chromium, server.url, "alice", "phone")
	staff := shops(t, chromium, server.url, "staff", "staff")
	laptop.order("teapot")
	staff.ship()
	phone.unread(1)

	// Nobody is there. What is sent now is for later, and for the mail.
	laptop.leave()
	phone.leave()
	staff.visit("desk")
	staff.announce("There is tea again.")
	staff.wait(`document.querySelectorAll("#mails li").length === 2`) // Alice and Bob
	staff.photo("desk")
	server.kill()
	staff.wait(`document.body.dataset.connection !== "connected"`)
	server = start(t, binary, port, db)
	for _, w := range []*shopper{laptop, phone} {
		w.visit("inbox")
		w.unread(2)
		w.lists("#items", "unread", "There is tea again.", "teapot, is on its way.")
	}
	phone.click(`#items [data-kind="order.shipped"] [data-action=read]`)
	laptop.unread(1)

	// Everybody is there.
	for _, w := range []*shopper{laptop, phone} {
		w.run(`import("/static/shell.js").then(({ client }) => Object.assign(window, { client, before: client.clientId }))`)
		w.wait("window.before")
	}
	server.kill()
	for _, w := range []*shopper{laptop, phone} {
		w.wait(`document.body.dataset.connection !== "connected"`)
	}
	start(t, binary, port, db)
	for _, w := range []*shopper{laptop, phone, staff} {
		w.live()
	}
	staff.wait(`document.querySelectorAll("#mails li").length === 2`)
	for _, w := range []*shopper{laptop, phone} {
		require.True(t, w.true("client.clientId === before"), "a session that was signed before the crash counts")
		w.unread(1)
		w.lists("#items", "unread", "There is tea again.")
		w.lists("#items", "read", "teapot, is on its way.")
	}
	staff.announce("And cake.")
	laptop.unread(2)
	phone.unread(2)
	phone.click("#read-all")
	laptop.unread(0)
	laptop.lists("#items", "read", "And cake.", "There is tea again.", "teapot, is on its way.")
	laptop.visit("")
	laptop.wait(`document.querySelector('#orders li[data-order="1"]')?.dataset.status === "shipped"`)
}

// S27: an inbox that was filled says so. It has many pages.
func TestInboxOfManyPages(t *testing.T) {
	t.Parallel()
	const kept = 500
	chromium := browser(t)
	server := start(t, buildExample(t, "notify"), "0", "DB="+filepath.Join(t.TempDir(), "shop.db"))
	alice, staff := shops(t, chromium, server.url, "alice", "alice"), shops(t, chromium, server.url, "staff", "staff")
	staff.run(fmt.Sprintf(`(async () => {
		for (let i = 1; i <= %d; i++) {
			const told = await fetch("/api/announcements", {
				method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ id: String(i), text: "news " + i }),
			});
			if (!told.ok) window.failed = told.status;
		}
		window.done = true;
	})()`, kept+3))
	for deadline := time.Now().Add(4 * patience); !staff.true("window.done") && time.Now().Before(deadline); {
		<-time.After(200 * time.Millisecond) // not a wait for a time: see wait
	}
	require.True(t, staff.true("window.done && window.failed === undefined"))

	alice.visit("inbox")
	alice.unread(kept)
	alice.wait(`document.querySelectorAll("#items .item").length === 20 && !document.querySelector("#truncated").hidden`)
	alice.photo("truncated")
	for shown := 20; shown < kept; shown = min(kept, shown+50) {
		alice.click("#older")
		alice.waitf(`document.querySelectorAll("#items .item").length === %d`, min(kept, shown+50))
	}
	alice.wait(`document.querySelector("#older").hidden && document.querySelector("#items .item:last-child .text").textContent === "news 4"`)
	alice.click("#truncated-ok")
	alice.wait(`document.querySelector("#truncated").hidden`)
	alice.unread(kept)
	alice.click("#read-all")
	alice.unread(0)
}
