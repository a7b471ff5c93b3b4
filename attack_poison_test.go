package parley

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAttackPoisonNode(t *testing.T) {
	h := newHub(t, Options{Authenticator: AuthenticatorFunc(func(*http.Request) (Identity, error) { return Identity{ID: "kim"}, nil })})
	_, err := h.Notify(t.Context(), "kim", json.RawMessage("\"caf\xe9\""))
	require.NoError(t, err)
	s := httptest.NewServer(h)
	defer s.Close()
	out, _ := exec.Command("node", "-e", `
let n=0;
function go(){ const w=new WebSocket("ws"+process.argv[1].slice(4),["parley.v1"]);
w.onmessage=e=>console.log("message",JSON.parse(e.data).type);
w.onclose=e=>{console.log("closed",e.code); if(++n<3) go(); else process.exit();};
setTimeout(()=>process.exit(),4000); }
go();`, s.URL).CombinedOutput()
	t.Log(string(out))
}
