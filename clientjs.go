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

// The files as they are published: nothing is built.
//
//go:embed js/parley.js
var clientJS []byte

//go:embed js/inbox.js
var inboxJS []byte

// module is one of these files, plain and compressed. Each form has a tag of
// its own: a cache must not take one for the other.
type module struct {
	name          string
	plain, zipped moduleForm
}

type moduleForm struct {
	body []byte
	etag string
}

var (
	clientModule = sync.OnceValue(func() module { return newModule("parley.js", clientJS) })
	inboxModule  = sync.OnceValue(func() module { return newModule("inbox.js", inboxJS) })
)

func newModule(name string, content []byte) module {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = io.Copy(w, bytes.NewReader(content))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic("parley: " + err.Error()) // a level that does not exist: writing to a bytes.Buffer does not fail
	}
	sum := sha256.Sum256(content)
	tag := hex.EncodeToString(sum[:8])
	return module{name, moduleForm{content, `"` + tag + `"`}, moduleForm{b.Bytes(), `"` + tag + `-gzip"`}}
}

// ClientJS returns a handler that serves the browser client, an ES module
// without dependencies, at whatever path it is mounted:
//
//	mux.Handle("GET /parley.js", parley.ClientJS())
//
// It is the file js/parley.js of this module, which is also what the npm package
// @parley-go/client holds, compressed for those who accept gzip. It is revalidated by its
// ETag, so that pages get the client of the running server.
func ClientJS() http.Handler { return clientModule() }

// InboxJS returns a handler that serves js/inbox.js, the part of the browser
// client that lists the inbox with its read state, for the pages that show
// one, in the same way as [ClientJS]:
//
//	mux.Handle("GET /inbox.js", parley.InboxJS())
//
// It imports nothing: a page gives it the client that it has connected.
func InboxJS() http.Handler { return inboxModule() }

// ServeHTTP implements [http.Handler].
func (m module) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/javascript; charset=utf-8")
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Add("Vary", "Accept-Encoding")
	form := m.plain
	if acceptsGzip(r) {
		form = m.zipped
		header.Set("Content-Encoding", "gzip")
		// http.ServeContent does not set it for encoded content.
		header.Set("Content-Length", strconv.Itoa(len(form.body)))
	}
	header.Set("ETag", form.etag)
	http.ServeContent(w, r, m.name, time.Time{}, bytes.NewReader(form.body))
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
