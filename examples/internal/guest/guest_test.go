package guest

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

func identify(token string) (parley.Identity, error) {
	r := httptest.NewRequest("GET", "/realtime", nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return Authenticate(r)
}

func TestGuest(t *testing.T) {
	const secret = "0123456789abcdefghijkl"
	kim, err := identify(secret + ".kim")
	require.NoError(t, err)
	assert.Equal(t, "kim", kim.Name)
	assert.NotContains(t, kim.ID, secret)

	again, err := identify(secret + ".kim the second")
	require.NoError(t, err)
	assert.Equal(t, kim.ID, again.ID, "the name does not make the user")

	other, err := identify("x" + secret + ".kim")
	require.NoError(t, err)
	assert.NotEqual(t, kim.ID, other.ID)

	nobody, err := identify("")
	require.NoError(t, err)
	assert.Zero(t, nobody)

	for _, bad := range []string{"kim", "short.kim", secret + "-_.kim", strings.Repeat("a", 65) + ".kim"} {
		_, err := identify(bad)
		assert.Error(t, err, bad)
	}
}

func TestCleanName(t *testing.T) {
	for in, want := range map[string]string{
		"kim":                     "kim",
		"  kim  ":                 "kim",
		"":                        "Guest",
		" \u200b\u2066 ":          "Guest",
		"a\x00b\u202ec\u00a0d\ne": "abcde",
		"Zoë 🧑\u200d💻":            "Zoë 🧑\u200d💻",
		"a\xffb":                  "ab",
		strings.Repeat("a", 33):   strings.Repeat("a", 32),
		strings.Repeat("山", 32):   strings.Repeat("山", 21), // 63 of 64 bytes
	} {
		assert.Equal(t, want, cleanName(in), "%q", in)
	}
}
