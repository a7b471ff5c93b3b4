package main

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// loadStalled measures what one reader that stops reading does to the others:
// their latency before and during, whether the server ends the connection,
// and how much memory it spends on it until then.
func loadStalled(spec loadSpec, f *fleet, ctl *control, m *measured) error {
	staller := spec.Senders + spec.Conns/2 // in the middle of a loop over all
	if err := assemble(spec, f, staller); err != nil {
		return err
	}
	p := newPublisher(f, spec, staller)
	if _, err := p.run(spec.Time/4, spec.Limit); err != nil {
		return err
	}
	all := len(f.clients)
	// The server is watched in both phases, so that both pay for it.
	w := watch(ctl, all)
	_, err := p.run(spec.Time, spec.Limit)
	before := w.stop()
	if err = errors.Join(err, w.problem); err != nil {
		return err
	}
	p99 := p.latency.quantile(0.99)
	if err := f.sockets.pause(staller); err != nil {
		return err
	}
	w = watch(ctl, all)
	begin := f.now()
	sent := p.window.next
	_, err = p.runWhile(spec.Limit, func(elapsed time.Duration) bool {
		return elapsed < spec.Time || elapsed < spec.Stall && !w.lost()
	})
	during := w.stop()
	if err == nil {
		err = w.problem
	}
	m.Values[latencyP50] = milliseconds(p.latency.quantile(0.50))
	m.Values[latencyP99] = milliseconds(p.latency.quantile(0.99))
	if errors.Is(err, errStuck) {
		m.Note = "one stalled reader stops everybody"
		return nil
	}
	if err != nil {
		return err
	}
	m.Values[p99Ratio] = float64(p.latency.quantile(0.99)) / float64(max(p99, 1))
	m.Values[rssGrowth] = float64(max(0, during.rss-before.rss)) / 1024
	sent = p.window.next - sent
	fate := fmt.Sprintf("not closed within %.0f s and %d messages", (f.now() - begin).Seconds(), sent)
	if during.lostAt > 0 {
		fate = fmt.Sprintf("closed after %.1f s and %d messages", during.lostAt.Seconds(), sent)
		if code, err := lastWords(f, staller); err != nil {
			return err
		} else if code != 0 {
			fate += fmt.Sprintf(" with %d", code)
		}
	}
	m.Note = fmt.Sprintf("staller %s; peak RSS %d KB above that before", fate, int(m.Values[rssGrowth]))
	return nil
}

// lastWords lets the staller read again and returns the close code it finds.
func lastWords(f *fleet, staller int) (int, error) {
	if err := f.sockets.resume(staller); err != nil {
		return 0, err
	}
	end := f.now() + 2*time.Second
	for f.now() < end && f.clients[staller].phase != phaseGone {
		if err := f.poll(20 * time.Millisecond); err != nil {
			return 0, err
		}
	}
	return f.clients[staller].closeCode, nil
}

// watcher asks the server a few times a second how it is.
type watcher struct {
	quit    chan struct{}
	running sync.WaitGroup
	problem error // valid after stop

	mu   sync.Mutex // guards seen
	seen watched
}

type watched struct {
	rss    int64         // the peak
	lostAt time.Duration // when a connection was missing first, 0 if never
}

func watch(ctl *control, connections int) *watcher {
	w := &watcher{quit: make(chan struct{})}
	begin := time.Now()
	w.running.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				return
			case <-tick.C:
			}
			s, err := ctl.live()
			if err != nil {
				w.problem = err
				return
			}
			w.mu.Lock()
			w.seen.rss = max(w.seen.rss, s.RSS)
			if s.Connections < connections && w.seen.lostAt == 0 {
				w.seen.lostAt = time.Since(begin)
			}
			w.mu.Unlock()
		}
	})
	return w
}

func (w *watcher) lost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.lostAt > 0
}

func (w *watcher) stop() watched {
	close(w.quit)
	w.running.Wait()
	return w.seen
}
