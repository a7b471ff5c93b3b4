package chatd

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"

	"github.com/parley-go/parley"
)

// Record is a message in the log of a topic, as the Store has it.
type Record struct {
	Offset int64           `json:"offset"`
	Data   json.RawMessage `json:"data"`
}

// handler serves the page at /, which is that of a named user after /as/<user>
// has set a cookie, the hub at /realtime, and what tests use below /test.
func handler(hub *parley.Hub, store parley.Store) http.Handler {
	files, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the directory is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(files))
	mux.Handle("GET /parley.js", parley.ClientJS())
	mux.Handle("/realtime", hub)
	mux.HandleFunc("GET /as/{user}", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "user", Value: r.PathValue("user"), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		http.Redirect(w, r, "/away.html", http.StatusSeeOther)
	})
	mux.HandleFunc("POST /test/room/{name}", func(w http.ResponseWriter, r *http.Request) {
		send(w, r, func(v any, opts ...parley.SendOption) (parley.Result, error) {
			return hub.Room(r.PathValue("name")).Send(r.Context(), v, opts...)
		})
	})
	mux.HandleFunc("POST /test/user/{name}", func(w http.ResponseWriter, r *http.Request) {
		send(w, r, func(v any, opts ...parley.SendOption) (parley.Result, error) {
			return hub.Notify(r.Context(), r.PathValue("name"), v, opts...)
		})
	})
	mux.HandleFunc("POST /test/all", func(w http.ResponseWriter, r *http.Request) {
		send(w, r, func(v any, opts ...parley.SendOption) (parley.Result, error) {
			return hub.Broadcast(r.Context(), v, opts...)
		})
	})
	mux.HandleFunc("GET /test/log/{topic...}", func(w http.ResponseWriter, r *http.Request) {
		showLog(w, r, store, r.PathValue("topic"))
	})
	mux.HandleFunc("GET /test/clients/{user}", func(w http.ResponseWriter, r *http.Request) {
		ids := []string{}
		for _, c := range hub.User(r.PathValue("user")) {
			ids = append(ids, c.ID())
		}
		_ = json.NewEncoder(w).Encode(ids)
	})
	return mux
}

// send sends the text in the body, once however often it is repeated: the
// header Idempotency-Key identifies it.
func send(w http.ResponseWriter, r *http.Request, f func(v any, opts ...parley.SendOption) (parley.Result, error)) {
	text, err := io.ReadAll(r.Body)
	if err == nil {
		_, err = f(string(text), parley.WithID(r.Header.Get("Idempotency-Key")))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// showLog answers with the whole log of a topic: the truth that pages are compared with.
func showLog(w http.ResponseWriter, r *http.Request, store parley.Store, topic string) {
	page, err := store.Read(r.Context(), topic, parley.Query{Forward: true, Limit: kept})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	records := []Record{}
	for _, e := range page.Entries {
		records = append(records, Record{Offset: e.Offset, Data: e.Data})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(records)
}
