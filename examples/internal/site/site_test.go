package site

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stopped is a hub that notes that it was stopped.
type stopped chan struct{}

func (s stopped) Shutdown(context.Context) error {
	close(s)
	return nil
}

// A request that is under way when the end comes is finished, after the hub has ended.
func TestServeFinishesRequests(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	hub := make(stopped)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		<-hub
		w.WriteHeader(http.StatusTeapot)
	})
	served := make(chan error)
	go func() { served <- Serve(ctx, ln, h, hub) }()
	response, err := http.Get("http://" + ln.Addr().String())
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, http.StatusTeapot, response.StatusCode)
	assert.NoError(t, <-served)
}

func TestRunSaysWhyItCannot(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	t.Setenv("HOST", "127.0.0.1")
	t.Setenv("PORT", port)
	var out bytes.Buffer
	err = Run(&out, "test", http.NotFoundHandler(), make(stopped))
	assert.ErrorContains(t, err, "set PORT")
	assert.Empty(t, out.String())
}

func TestURLs(t *testing.T) {
	assert.Equal(t, []string{"http://127.0.0.1:80/"}, urls(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}))
	all := urls(&net.TCPAddr{IP: net.IPv6unspecified, Port: 80})
	assert.Equal(t, "http://localhost:80/", all[0])
}

func TestFilesListNoDirectory(t *testing.T) {
	files := Files(fstest.MapFS{"index.html": {Data: []byte("hi")}, "css/a.css": {Data: []byte("b {}")}})
	for path, want := range map[string]int{"/": 200, "/css/a.css": 200, "/css/": 404, "/css/b.css": 404} {
		w := httptest.NewRecorder()
		files.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		assert.Equal(t, want, w.Code, path)
	}
}
