//go:build !parley_mutants

package parley

// mutant reports whether the hub is to make the mistake of this name, so that
// the checker package can prove that it finds it. It never is, and the
// compiler leaves out what depends on it, unless built with -tags parley_mutants.
func mutant(string) bool { return false }

func mutated(frames []*frame) []*frame { return frames }

func mutatedPage(page Page) Page { return page }
