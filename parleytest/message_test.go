package parleytest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMessage(t *testing.T) {
	m, err := parse([]byte(`{"type":"t","b":true,"n":9007199254740993,"f":1.5,"o":{"x":[1]},"l":[{"a":1},{"a":2}],"mixed":[{},1],"z":null}`))
	require.NoError(t, err)
	require.Equal(t, "t", m.Type())
	require.Equal(t, []string{"t", "", ""}, []string{m.Str("type"), m.Str("none"), m.Str("n")})
	require.Equal(t, []bool{true, false, false}, []bool{m.Bool("b"), m.Bool("none"), m.Bool("type")})
	require.Equal(t, []int64{9007199254740993, 0, 0, 0}, []int64{m.Int("n"), m.Int("f"), m.Int("none"), m.Int("type")})
	require.Len(t, m.List("l"), 2)
	require.EqualValues(t, 2, m.List("l")[1].Int("a"))
	require.Nil(t, m.List("mixed"))
	require.Nil(t, m.List("o"))
	require.Nil(t, m.List("none"))
	var o struct{ X []int }
	require.NoError(t, m.Decode("o", &o))
	require.Equal(t, []int{1}, o.X)
	require.ErrorContains(t, m.Decode("none", &o), `no field "none" in {"b":true,`)
	require.Error(t, m.Decode("n", &o))
	require.Equal(t, `{"text":"<b>"}`, Message{"text": "<b>"}.String())
	require.Contains(t, Message{"f": func() {}}.String(), "map[f:0x")
	_, err = parse([]byte(`[1]`))
	require.Error(t, err)
}

func TestDifferences(t *testing.T) {
	for _, tc := range []struct {
		want, got string
		diff      []string
	}{
		{`{}`, `{"a":1}`, nil},
		{`{"a":{"b":1}}`, `{"a":{"b":1,"c":2}}`, nil},
		{`{"a":{"b":1}}`, `{"a":{"b":2}}`, []string{"a.b is 2, expected 1"}},
		{`{"a":{"b":1}}`, `{"a":1}`, []string{`a is 1, expected {"b":1}`}},
		{`{"a":[1,{"x":2}]}`, `{"a":[1,{"x":2,"y":3}]}`, nil},
		{`{"a":[1]}`, `{"a":[1,2]}`, []string{"a is [1,2], expected [1]"}},
		{`{"a":[1]}`, `{"a":{}}`, []string{"a is {}, expected [1]"}},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, []string{"a[0] is 2, expected 1", "a[1] is 1, expected 2"}},
		{`{"a":1}`, `{"a":1.0}`, nil},
		{`{"a":1e2}`, `{"a":100}`, nil},
		{`{"a":1}`, `{"a":"1"}`, []string{`a is "1", expected 1`}},
		{`{"a":"1"}`, `{"a":1}`, []string{`a is 1, expected "1"`}},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, []string{"a is 9007199254740992, expected 9007199254740993"}},
		{`{"a":null}`, `{"a":null}`, nil},
		{`{"a":null}`, `{}`, []string{"a is missing, expected null"}},
		{`{"a":null}`, `{"a":false}`, []string{"a is false, expected null"}},
		{`{"a":true,"b":"x"}`, `{"a":false,"b":"y"}`, []string{"a is false, expected true", `b is "y", expected "x"`}},
		{`{"a":""}`, `{"a":{}}`, []string{`a is {}, expected ""`}},
		{`{"a":""}`, `{"a":[]}`, []string{`a is [], expected ""`}},
	} {
		want, err := parse([]byte(tc.want))
		require.NoError(t, err)
		got, err := parse([]byte(tc.got))
		require.NoError(t, err)
		require.Equal(t, tc.diff, differences("", map[string]any(want), map[string]any(got)), "%s %s", tc.want, tc.got)
	}
}
