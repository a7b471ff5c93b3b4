package parley

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed" // for the browser client
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The file as it is published: nothing is built.
//
//go:embed js/parley.js
var clientJS []byte

// clientForms returns what ClientJS serves, plain and compressed. Each has a
// tag of its own: a cache must not take one for the other.
var clientForms = sync.OnceValues(func() (plain, zipped clientForm) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = io.Copy(w, bytes.NewReader(clientJS))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic("parley: " + err.Error()) // a level that does not exist: writing to a bytes.Buffer does not fail
	}
	sum := sha256.Sum256(clientJS)
	tag := hex.EncodeToString(sum[:8])
	return clientForm{clientJS, `"` + tag + `"`}, clientForm{b.Bytes(), `"` + tag + `-gzip"`}
})

type clientForm struct {
	body []byte
	etag string
}

// ClientJS returns a handler that serves the browser client, an ES module
// without dependencies, at whatever path it is mounted:
//
//	mux.Handle("GET /parley.js", parley.ClientJS())
//
// It is the file js/parley.js of this module, which is also what the npm package
// @parley-go/client holds, compressed for those who accept gzip. It is revalidated by its
// ETag, so that pages get the client of the running server.
func ClientJS() http.Handler {
	plain, zipped := clientForms()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Type", "text/javascript; charset=utf-8")
		header.Set("Cache-Control", "no-cache")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Add("Vary", "Accept-Encoding")
		form := plain
		if acceptsGzip(r) {
			form = zipped
			header.Set("Content-Encoding", "gzip")
			// http.ServeContent does not set it for encoded content.
			header.Set("Content-Length", strconv.Itoa(len(form.body)))
		}
		header.Set("ETag", form.etag)
		http.ServeContent(w, r, "parley.js", time.Time{}, bytes.NewReader(form.body))
	})
}

// acceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3). What is
// malformed there is accepted by nobody.
func acceptsGzip(r *http.Request) bool {
	others := false // what "*" says
	for _, line := range r.Header.Values("Accept-Encoding") {
		for entry := range strings.SplitSeq(line, ",") {
			coding, weight, weighted := strings.Cut(entry, ";")
			accepted := true
			if weighted {
				q, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(weight)), "q=")
				f, err := strconv.ParseFloat(q, 64)
				accepted = ok && err == nil && f > 0 && f <= 1
			}
			switch coding = strings.TrimSpace(coding); {
			case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"):
				return accepted
			case coding == "*":
				others = accepted
			}
		}
	}
	return others
}
