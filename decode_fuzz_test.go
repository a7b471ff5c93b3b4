package parley

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// reference is decode once more, written for clarity on top of encoding/json.
// It returns the code of the refusal, or "".
func reference(p []byte) (in inbound, code Code) {
	if !json.Valid(p) {
		return inbound{}, CodeBadJSON
	}
	dec := json.NewDecoder(bytes.NewReader(p))
	if start, _ := dec.Token(); start != json.Delim('{') {
		return inbound{}, CodeBadJSON
	}
	ids := 0
	seen := map[string]bool{}
	for dec.More() {
		token, _ := dec.Token()
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			panic(err) // the text is valid
		}
		key := token.(string)
		for _, known := range fieldNames {
			if !strings.EqualFold(key, known) {
				continue
			}
			if known == "id" {
				ids++
			}
			if key != known || seen[known] || !referenceField(&in, known, value) {
				code = CodeBadRequest
			}
			seen[known] = true
		}
	}
	if in.Type == "" {
		code = CodeBadRequest
	}
	if ids != 1 {
		in.ID = ""
	}
	if referenceDepth(p) > 32 {
		code = CodeBadJSON
	}
	if code != "" {
		return inbound{ID: in.ID}, code
	}
	in.HasRoom, in.HasUsername, in.HasTargetID, in.HasEpoch = seen["room"], seen["username"], seen["targetId"], seen["epoch"]
	in.HasOffset, in.HasBefore, in.HasLimit = seen["offset"], seen["before"], seen["limit"]
	return in, ""
}

// referenceField sets one field, and reports false if the value breaks P2.3 or P2.4.
func referenceField(in *inbound, key string, value json.RawMessage) bool {
	str := func(dst *string, limit int) bool {
		s, ok := referenceString(value)
		if ok && limit > 0 {
			ok = len(s) >= 1 && len(s) <= limit && strings.IndexFunc(s, unicode.IsControl) < 0
		}
		if ok {
			*dst = s
		}
		return ok
	}
	integer := func(dst *int64) bool {
		n, err := strconv.ParseUint(string(value), 10, 53)
		*dst = int64(n)
		return err == nil
	}
	switch key {
	case "type":
		return str(&in.Type, 0)
	case "id":
		return str(&in.ID, 64)
	case "room":
		return str(&in.Room, 255)
	case "username":
		return str(&in.Username, 64)
	case "targetId":
		return str(&in.TargetID, 255)
	case "epoch":
		return str(&in.Epoch, 0)
	case "method":
		return str(&in.Method, 64)
	case "name":
		return str(&in.Name, 64)
	case "offset":
		return integer(&in.Offset)
	case "before":
		return integer(&in.Before)
	case "limit":
		return integer(&in.Limit)
	case "message":
		in.Message = value
	case "content":
		in.Content = value
	case "data":
		in.Data = value
	case "topic":
		return str(&in.Topic, 0)
	case "offsets":
		var items []json.RawMessage
		ok := json.Unmarshal(value, &items) == nil && len(items) >= 1 && len(items) <= 100
		for _, item := range items {
			n, err := strconv.ParseUint(string(item), 10, 53)
			ok = ok && err == nil
			in.Offsets = append(in.Offsets, int64(n))
		}
		if !ok {
			in.Offsets = nil
		}
		return ok
	case "ids":
		var items []json.RawMessage
		ok := json.Unmarshal(value, &items) == nil && len(items) >= 1 && len(items) <= 100
		for _, item := range items {
			s, valid := referenceString(item)
			ok = ok && valid && len(s) >= 1 && len(s) <= 255 && strings.IndexFunc(s, unicode.IsControl) < 0
			in.IDs = append(in.IDs, s)
		}
		if !ok {
			in.IDs = nil
		}
		return ok
	}
	return true
}

var stringParts = regexp.MustCompile(`(?s)\\u[0-9a-fA-F]{4}|\\.|[^\\]`)

// referenceString decodes a string. encoding/json puts U+FFFD in the place of
// half a surrogate pair, so there must be as many as the text itself has.
func referenceString(value json.RawMessage) (s string, ok bool) {
	var p *string
	if json.Unmarshal(value, &p) != nil || p == nil {
		return "", false
	}
	written := 0
	for _, part := range stringParts.FindAllString(string(value), -1) {
		if part == "\ufffd" || strings.EqualFold(part, `\ufffd`) {
			written++
		}
	}
	return *p, strings.Count(*p, "\ufffd") == written
}

// referenceDepth returns how deep the brackets of a valid text are nested.
func referenceDepth(p []byte) (deepest int) {
	dec := json.NewDecoder(bytes.NewReader(p))
	level := 0
	for {
		token, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			level++
			deepest = max(deepest, level)
		case json.Delim('}'), json.Delim(']'):
			level--
		}
	}
}

// S28, S29, S30, S31, F54: decode accepts what the reference accepts, with
// the same values, and refuses the rest with the same code and id.
func FuzzDecode(f *testing.F) {
	for _, v := range loadClientVectors(f) {
		f.Add(v.raw(f))
	}
	for _, text := range []string{
		`{"type":"x","a":` + nest(31, true) + `}`, `{"a":` + nest(32, true) + `,"id":"i"}`, nest(40, false),
		`{"type":"x","epoch":"\\\"\/\b\f\n\r\t\u00e9\ud83d\ude00"}`, `{"type":"x","epoch":"\\uFFFD\uFFFD\\\ufffd` + "\ufffd" + `"}`,
		`{"type":"x","epoch":"\ud83d\ud83d\ude00"}`, `{"type":"x","u\u017fername":"s"}`, `{"type":"x","data":[1.5e-3,-0,true,false,null,"12345678\u0000"]}`,
		"{\"type\":\"x\",\"room\":\"\u0085\"}", "{\"type\":\"x\",\"room\":\"\xff\"}", `{"offset":9007199254740992}`, `{"offset":-0}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		before := bytes.Clone(p)
		var in inbound
		err := decode(p, &in)
		require.Equal(t, before, p, "the input was changed")
		if err != nil {
			require.Contains(t, []Code{CodeBadJSON, CodeBadRequest}, err.Code)
			require.True(t, utf8.ValidString(err.Message) && err.Message != "")
		} else {
			require.True(t, json.Valid(p))
		}
		if !utf8.Valid(p) {
			return // refused before; encoding/json would repair it
		}
		want, code := reference(p)
		if code != "" {
			require.NotNil(t, err, "accepted, but %s", code)
			require.Equal(t, code, err.Code, err.Message)
			if json.Valid(p) {
				require.Equal(t, want.ID, in.ID)
			}
			return
		}
		if err != nil {
			require.Failf(t, "refused", "%s", err.Message)
		}
		require.Equal(t, want, in)
	})
}

// S30: any string at all becomes a JSON string that stands for the same text.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\/", "\x00\x1f\x7f", "\b\f\n\r\t", "é日\U0001F600", "\u2028\u2029", "\xff\xc3", "\xed\xa0\x80", "<&>", "\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := appendJSONString([]byte("head"), s)
		require.True(t, bytes.HasPrefix(p, []byte("head")))
		p = p[len("head"):]
		require.True(t, json.Valid(p), "%q", p)
		require.True(t, utf8.Valid(p))
		require.NotContains(t, string(p), "\u2028")
		require.NotContains(t, string(p), "\u2029")
		var back string
		require.NoError(t, json.Unmarshal(p, &back))
		require.Equal(t, string([]rune(s)), back)
		require.Equal(t, marshalString(t, s), string(p))
		if utf8.ValidString(s) {
			// What the server writes, its own decoder reads.
			in := decodeText(t, `{"type":"x","epoch":`+string(p)+`}`)
			require.Equal(t, s, in.Epoch)
		}
	})
}
