//go:build parley_mutants

package client

import (
	"bytes"
	"math/rand/v2"
	"os"
)

var mutation = os.Getenv("PARLEY_MUTANT")

func mutant(name string) bool { return mutation == name }

// mutantDrops loses a message that the position has moved past.
func mutantDrops(e event) bool {
	return mutant("client-drop") && e.topic != nil && rand.IntN(100) == 0
}

// renameLocked gives a request that was written already another id.
func (c *Client) renameLocked(r *request) {
	if !r.written {
		return
	}
	delete(c.pending, r.id)
	old := r.id
	r.id += "x"
	c.pending[r.id] = r
	r.text = bytes.Replace(r.text, []byte(old), []byte(r.id), 1)
}
