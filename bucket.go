package parley

import (
	"time"

	"golang.org/x/time/rate"
)

// creditTime is how long a credit lasts: what piled up is read at once.
const creditTime = 5 * time.Second

// bucket is a token bucket that a connection is not charged for its own
// pauses. The zero value is empty of memory: an idle connection has no limiter.
type bucket struct {
	limiter *rate.Limiter
	credit  int
	until   time.Time // the credit ends
}

// allow takes a token. A bucket with a negative rate is never empty.
func (b *bucket) allow(perSecond float64, burst int) bool {
	if perSecond < 0 {
		return true
	}
	if b.credit > 0 {
		if time.Now().Before(b.until) {
			b.credit--
			return true
		}
		b.credit = 0
	}
	return b.get(perSecond, burst).Allow()
}

// charge takes n further tokens, also those of the future.
func (b *bucket) charge(n int, perSecond float64, burst int) {
	if perSecond >= 0 && n > 0 {
		b.get(perSecond, burst).ReserveN(time.Now(), min(n, burst))
	}
}

// paused credits what arrived at an allowed pace while nothing was read,
// beyond the burst that the bucket has saved meanwhile.
func (b *bucket) paused(d time.Duration, perSecond float64, burst int) {
	if n := int(d.Seconds()*perSecond) - burst; n > 0 {
		b.credit, b.until = n, time.Now().Add(creditTime)
	}
}

func (b *bucket) get(perSecond float64, burst int) *rate.Limiter {
	if b.limiter == nil {
		b.limiter = rate.NewLimiter(rate.Limit(perSecond), burst)
	}
	return b.limiter
}
