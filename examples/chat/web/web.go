// Package web is the page of the chat. Other examples that look like it use its parts.
package web

import "embed"

// Files are what the browser gets.
//
//go:embed index.html icon.svg css js
var Files embed.FS
