//go:build !parley_mutants

package client

// mutant reports whether the client is to make the mistake of this name; see
// the file of the same name in the parley package.
func mutant(string) bool { return false }

func mutantDrops(event) bool { return false }

func (c *Client) renameLocked(*request) {}
