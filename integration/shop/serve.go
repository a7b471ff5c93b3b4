package shop

import (
	"context"
	"io"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/parley-go/parley"
	"github.com/parley-go/parley/integration/chatd"
)

// patience bounds how long the end may take.
const patience = 10 * time.Second

// Run is a shop from its start until SIGTERM, or its death.
func Run(out io.Writer, cfg Config) error {
	s, err := Open(out, cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	ln, err := chatd.Listen(cfg.Port)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	defer srv.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 2) // room for both, so that the goroutines end even if nobody looks
	go func() { failed <- srv.Serve(ln) }()
	s.say("open")
	go func() {
		if err := s.Trade(ctx, func(error) bool { return ctx.Err() != nil }); err != nil {
			failed <- err
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Handler serves the hub at /realtime, and takes notifications beside all
// orders at /notify/<user>: the header Idempotency-Key is the id. Its answer is
// "stored", or "duplicate" for one that was there.
func (s *Shop) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/realtime", s.Hub)
	mux.HandleFunc("POST /notify/{user}", func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("Idempotency-Key")
		result, err := s.Hub.Notify(r.Context(), r.PathValue("user"), map[string]string{"order": id}, parley.WithID(id))
		answer := "stored"
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		case result.Duplicate:
			answer = "duplicate"
		}
		_, _ = io.WriteString(w, answer) // who asked may be gone
	})
	return mux
}
