package main

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/parley-go/parley/examples/internal/site"
)

//go:embed web
var web embed.FS

// page is what the templates get.
type page struct {
	Name   string // of its template and of its script
	Title  string
	User   user
	Unread int64 // so that the badge is right before the page is connected
	Order  Order
}

// Time formats a time of an order.
func (page) Time(ms int64) string { return time.UnixMilli(ms).Format("2 January 2006, 15:04") }

var titles = map[string]string{"login": "Log in", "orders": "Orders", "order": "Order", "inbox": "Inbox", "desk": "Staff desk"}

// addPages adds the pages and their files. All but the login have the bell.
func (s *shop) addPages(mux *http.ServeMux) error {
	files, err := fs.Sub(web, "web/static")
	if err != nil {
		return err
	}
	mux.Handle("GET /static/{file}", http.StripPrefix("/static/", site.Files(files)))
	templates := map[string]*template.Template{}
	for name := range titles {
		if templates[name], err = template.ParseFS(web, "web/layout.html", "web/"+name+".html"); err != nil {
			return err
		}
	}
	show := func(w http.ResponseWriter, p page) {
		p.Title = titles[p.Name]
		var html bytes.Buffer // so that an error does not come after half of the page
		if err := templates[p.Name].Execute(&html, p); err != nil {
			broken(w, err)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store") // it is somebody's
		_, _ = html.WriteTo(w)
	}
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) { show(w, page{Name: "login"}) })
	for path, name := range map[string]string{"/{$}": "orders", "/orders/{id}": "order", "/inbox": "inbox", "/desk": "desk"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if p, ok := s.page(w, r, name); ok {
				show(w, p)
			}
		})
	}
	return nil
}

// page finds out what a page shows; it has answered when it returns false.
func (s *shop) page(w http.ResponseWriter, r *http.Request, name string) (page, bool) {
	found, err := s.sessions.find(r)
	if errors.Is(err, errNoSession) {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return page{}, false
	}
	p := page{Name: name, User: found.user}
	if err == nil && name == "order" {
		id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64) // there is no order 0
		if p.Order, err = s.db.order(r.Context(), p.User, id); err == nil {
			s.seen(r.Context(), p.User, id)
		}
	}
	if errors.Is(err, errNoOrder) || name == "desk" && !p.User.Staff {
		http.NotFound(w, r)
		return page{}, false
	}
	if err != nil {
		broken(w, err)
		return page{}, false
	}
	inbox, err := s.hub.Inbox(p.User.ID).Unread(r.Context())
	if err != nil {
		slog.Error("unread count not known", "error", err) // the page will know it when it is connected
	}
	p.Unread = int64(inbox.Unread)
	return p, true
}
