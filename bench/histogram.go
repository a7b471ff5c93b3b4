package main

import (
	"math/bits"
	"time"
)

// Values share their upper 7 bits with a bucket, so a bucket is at most 1/64
// of its value wide: 1.6 %, finer than the noise of any run.
const (
	histogramSub     = 64
	histogramBuckets = 58*histogramSub + 2*histogramSub
)

// histogram counts durations in log-linear buckets. Recording touches one
// word and allocates nothing, because it happens for every single delivery.
// It is not safe for concurrent use.
type histogram struct {
	counts [histogramBuckets]uint64
	total  uint64
}

func bucketOf(v uint64) int {
	if v < 2*histogramSub {
		return int(v)
	}
	shift := bits.Len64(v) - 7
	return shift*histogramSub + int(v>>shift)
}

// bucketValue is the middle of a bucket.
func bucketValue(i int) uint64 {
	if i < 2*histogramSub {
		return uint64(i)
	}
	shift := i/histogramSub - 1
	return uint64(i-shift*histogramSub)<<shift + uint64(1)<<shift/2
}

func (h *histogram) record(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 0)))]++
	h.total++
}

func (h *histogram) reset() { *h = histogram{} }

// quantile returns the duration that the share q of all recorded ones does
// not exceed, and 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(h.total)), h.total-1)
	var seen uint64
	for i, n := range h.counts {
		seen += n
		if seen > rank {
			return time.Duration(bucketValue(i))
		}
	}
	return 0
}
