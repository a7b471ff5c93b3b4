package parley

import (
	"crypto/sha256"
	_ "embed" // for the browser client
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

//go:embed js/parley.js
var clientJS string

// ClientJS returns a handler that serves the browser client, an ES module
// without dependencies, at whatever path it is mounted:
//
//	mux.Handle("GET /parley.js", parley.ClientJS())
//
// It is revalidated by its ETag, so that pages get the client of the running server.
func ClientJS() http.Handler {
	sum := sha256.Sum256([]byte(clientJS))
	etag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Type", "text/javascript; charset=utf-8")
		header.Set("Cache-Control", "no-cache")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("ETag", etag)
		http.ServeContent(w, r, "parley.js", time.Time{}, strings.NewReader(clientJS))
	})
}
