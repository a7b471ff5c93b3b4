package parley

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A client that knows only the fixed shapes of docs/protocol.md, section 3.
func TestPlainClientConversation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, Options{ClientBroadcast: true})
		kim, lee := s.plain(), s.plain()
		require.NotEqual(t, kim.id, lee.id)

		kim.send(`{"type":"broadcast","message":{"n":1}}`)
		m := lee.expect("broadcast")
		require.Equal(t, kim.id, m.str("senderId"))
		require.Equal(t, map[string]any{"n": 1.0}, m["message"])
		kim.expectNone()

		kim.send(map[string]any{"type": "private", "targetId": lee.id, "message": "psst"})
		m = lee.expect("private")
		require.Equal(t, kim.id, m.str("senderId"))
		require.Equal(t, "psst", m["message"])

		require.Empty(t, kim.join("tea", "kim")["messages"])
		require.Equal(t, "kim joined", kim.expect("system").str("content"))
		require.Empty(t, lee.join("tea", "lee")["messages"])
		require.Equal(t, "lee joined", lee.expect("system").str("content"))
		require.Equal(t, "lee joined", kim.expect("system").str("content"))

		kim.send(`{"type":"message","content":"hello"}`)
		for _, c := range []*client{kim, lee} {
			m := c.expect("message")
			require.Equal(t, "kim", m.str("username"))
			require.Equal(t, "hello", m.str("content"))
			require.NotZero(t, m.num("timestamp"))
			require.EqualValues(t, 1, m.num("offset"))
		}

		lee.send(`{"type":"leave"}`)
		require.Equal(t, "lee left", kim.expect("system").str("content"))
		history := lee.join("tea", "lee")["messages"].([]any)
		require.Len(t, history, 1)
		require.Equal(t, "hello", history[0].(map[string]any)["content"])
		kim.expect("system")
		lee.expect("system")

		_ = lee.ws.CloseNow() // dies without a word
		require.Equal(t, "lee left", kim.expect("system").str("content"))
	})
}
