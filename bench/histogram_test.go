package main

import (
	"math"
	"testing"
	"time"
)

func TestHistogramBucketsAreContiguous(t *testing.T) {
	last := -1
	for v := uint64(0); v < 1<<14; v++ {
		i := bucketOf(v)
		if i != last && i != last+1 {
			t.Fatalf("bucket of %d is %d, that of its predecessor %d", v, i, last)
		}
		last = i
	}
	if i := bucketOf(math.MaxInt64); i >= histogramBuckets {
		t.Fatalf("bucket %d of %d for the largest duration", i, histogramBuckets)
	}
}

func TestHistogramBucketValueIsClose(t *testing.T) {
	for v := uint64(1); v < math.MaxInt64/3; v = v*3 + 1 {
		got := float64(bucketValue(bucketOf(v)))
		if math.Abs(got-float64(v)) > float64(v)/64 {
			t.Errorf("%d is told as %.0f", v, got)
		}
	}
}

func TestHistogramQuantile(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("median of nothing is %v", got)
	}
	for i := 1; i <= 1000; i++ {
		h.record(time.Duration(i) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{
		0: 1 * time.Microsecond, 0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: 1000 * time.Microsecond,
	} {
		got := h.quantile(q)
		if math.Abs(float64(got-want)) > float64(want)/50 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	h.reset()
	h.record(-time.Second) // a clock that stepped back must not crash the run
	if h.total != 1 || h.quantile(1) != 0 {
		t.Errorf("after reset: total %d, maximum %v", h.total, h.quantile(1))
	}
}
