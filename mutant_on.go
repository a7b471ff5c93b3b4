//go:build parley_mutants

package parley

import (
	"math/rand/v2"
	"os"
	"slices"
)

var mutation = os.Getenv("PARLEY_MUTANT")

func mutant(name string) bool { return mutation == name }

// mutated makes mistakes with what one member is sent.
func mutated(frames []*frame) []*frame {
	i := rand.IntN(len(frames))
	switch {
	case mutant("drop1in500") && rand.IntN(500) == 0:
		return slices.Delete(slices.Clone(frames), i, i+1)
	case mutant("twice") && rand.IntN(500) == 0:
		return slices.Insert(slices.Clone(frames), i, frames[i])
	case mutant("swap") && i > 0:
		frames = slices.Clone(frames)
		frames[i-1], frames[i] = frames[i], frames[i-1]
	}
	return frames
}

// mutatedPage makes mistakes with what was read of a log.
func mutatedPage(page Page) Page {
	if n := len(page.Entries); mutant("mixed") && n > 1 {
		page.Entries = slices.Clone(page.Entries)
		a, b := &page.Entries[n-2], &page.Entries[n-1]
		a.Data, b.Data = b.Data, a.Data
	}
	return page
}
