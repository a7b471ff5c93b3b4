package parley

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"unicode/utf8"
)

// Validator is what the input of a handler may implement: it is asked after
// decoding, and an error is told to the client as CodeInvalid with its text.
type Validator interface {
	Validate() error
}

type rawHandler func(ctx context.Context, c *Conn, data []byte) ([]byte, error)

// handlerTable finds handlers by method.
type handlerTable struct {
	mu       sync.RWMutex
	handlers map[string]rawHandler
}

func (t *handlerTable) find(method string) rawHandler {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.handlers[method]
}

// On registers the handler of a method that clients call. The data of the
// call is decoded into In (absent data leaves it zero, but is refused if In is a pointer, which
// so is never nil; fields that In does not have are ignored), validated if In or *In is a Validator, and what f returns is encoded as the reply.
//
// An *Error from f is told to the client as it is; any other error is logged,
// and told as CodeInternal. A panic closes the connection with 1011. ctx ends
// with the connection. f runs in the goroutine that reads from the connection: the next
// message of this client waits for it (its heartbeat does not), other clients do not.
//
// On panics if method breaks rule P2.4 or has a handler already, as
// http.Handle does; it may be called at any time.
func On[In, Out any](h *Hub, method string, f func(ctx context.Context, c *Conn, in In) (Out, error)) {
	if !validName(method, maxShortName) {
		panic(fmt.Sprintf("parley: On: invalid method %q", method))
	}
	h.handlers.mu.Lock()
	defer h.handlers.mu.Unlock()
	if h.handlers.handlers[method] != nil {
		panic(fmt.Sprintf("parley: On: method %q has a handler already", method))
	}
	h.handlers.handlers[method] = func(ctx context.Context, c *Conn, data []byte) ([]byte, error) {
		var in In
		if data != nil {
			if err := json.Unmarshal(data, &in); err != nil {
				return nil, NewError(CodeBadRequest, inputError(method, err))
			}
		}
		if v := reflect.ValueOf(&in).Elem(); v.Kind() == reflect.Pointer && v.IsNil() {
			return nil, NewError(CodeBadRequest, fmt.Sprintf("data of %q is missing", method))
		}
		if err := validate(&in); err != nil {
			return nil, err
		}
		out, err := f(ctx, c, in)
		if err != nil {
			return nil, err
		}
		reply, err := json.Marshal(out)
		if err != nil {
			return nil, fmt.Errorf("reply of %q: %w", method, err)
		}
		if !utf8.Valid(reply) {
			return nil, fmt.Errorf("reply of %q: %w", method, errPayloadText)
		}
		return reply, nil
	}
}

// inputError says what is wrong with the data of a call, without the names of
// the application's types, which encoding/json would tell.
func inputError(method string, err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return fmt.Sprintf("data of %q: %q cannot be a %s", method, wrong.Field, wrong.Value)
	}
	return fmt.Sprintf("data of %q is not what it takes", method)
}

// validate asks In or *In.
func validate[In any](in *In) error {
	v, ok := any(*in).(Validator)
	if !ok {
		v, ok = any(in).(Validator)
	}
	if !ok {
		return nil
	}
	if err := v.Validate(); err != nil {
		return NewError(CodeInvalid, err.Error())
	}
	return nil
}
