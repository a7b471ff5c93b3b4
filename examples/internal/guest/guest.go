// Package guest lets everybody into an example, without an account.
package guest

import (
	"crypto/sha256"
	"encoding/base32"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/parley-go/parley"
)

const (
	minSecret    = 22 // characters: 128 bits in base64
	maxSecret    = 64
	maxNameRunes = 32
	maxNameBytes = 64 // the library's own limit
)

var errToken = parley.NewError(parley.CodeBadRequest, "the token must be a secret of 22 to 64 letters and digits, a dot and a name")

// Authenticate lets everybody in without an account. A page makes up a secret and
// sends it with the name of its user as the token "secret.name"; the user id is
// a hash of the secret. So a guest stays the same user over reconnects and
// reloads, private messages find them, and nobody else can become them,
// although everybody sees their id. Without a token the connection is anonymous.
func Authenticate(r *http.Request) (parley.Identity, error) {
	token := parley.Token(r)
	if token == "" {
		return parley.Identity{}, nil
	}
	secret, name, ok := strings.Cut(token, ".")
	if !ok || len(secret) < minSecret || len(secret) > maxSecret || !isAlphanumeric(secret) {
		return parley.Identity{}, errToken
	}
	sum := sha256.Sum256([]byte("parley example chat, guest " + secret))
	id := base32.HexEncoding.EncodeToString(sum[:15]) // 120 bits: 24 characters without padding
	return parley.Identity{ID: "guest-" + strings.ToLower(id), Name: cleanName(name)}, nil
}

func isAlphanumeric(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// cleanName takes out of a name what would look like nothing or like something
// else: unicode.IsPrint has no control characters, no invisible ones and none
// that turn the direction of the text around them. It does not refuse: a
// browser cannot tell its user why a connection was refused.
func cleanName(name string) string {
	name = strings.Trim(strings.Map(printable, name), blank)
	runes := 0
	for i, r := range name {
		if runes == maxNameRunes || i+utf8.RuneLen(r) > maxNameBytes {
			name = strings.Trim(name[:i], blank)
			break
		}
		runes++
	}
	if name == "" {
		return "Guest"
	}
	return name
}

const (
	joiner = '\u200d' // joins emoji
	blank  = " " + string(joiner)
)

func printable(r rune) rune {
	if r != utf8.RuneError && (unicode.IsPrint(r) || r == joiner) {
		return r
	}
	return -1
}
