// Package site holds what every web program has to get right and what has
// nothing to do with messaging: response headers, static files, and starting
// and stopping. The examples share it.
package site

import (
	"io/fs"
	"net/http"
	"strings"
)

// contentPolicy lets a page load its own scripts, styles and images and talk
// to its own server, and nothing else. No inline script or style can run, and
// scripts cannot turn strings into HTML: text of a stranger stays text.
// 'self' includes the WebSocket on the same host and port.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// Headers sets the security headers on every response of next.
func Headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// Files serves the files of fsys, with index.html at "/". Unlike the file
// server of net/http it never lists a directory.
func Files(fsys fs.FS) http.Handler {
	files := http.FileServerFS(fsys)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "" || r.URL.Path != "/" && strings.HasSuffix(r.URL.Path, "/") {
			http.NotFound(w, r)
			return
		}
		// Embedded files have no modification time to compare with, so a
		// browser is told to ask each time instead of guessing for how long.
		w.Header().Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}
