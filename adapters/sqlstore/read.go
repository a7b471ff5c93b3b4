package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"math"
	"slices"

	"github.com/parley-go/parley"
)

// The parts of the query of a Read. It is a single statement, so that all of it is
// of one moment. lo is the offset of the oldest entry still kept. The parts
// that entries come from name their topic by a subquery, not by a join, so that an index
// gives the order and LIMIT ends the search.
const (
	readHead = `WITH p(name, now, bound, n) AS (VALUES (CAST(? AS {blob}), CAST(? AS {int}), CAST(? AS {int}), CAST(? AS {int}))),
b AS (SELECT t.id, t.epoch, t.top, t.version, t.truncated, t.counts, p.now,
  CASE WHEN t.age > 0 AND t.last_at <= p.now - t.age THEN t.top + 1
  ELSE coalesce((SELECT e.pos FROM {p}entries e WHERE e.topic_id = t.id AND e.pos >= t.first AND (t.age = 0 OR e.stored_at > p.now - t.age)
    ORDER BY e.pos LIMIT 1), t.top + 1) END AS lo
  FROM p JOIN {p}topics t ON t.name = p.name)
SELECT 0 AS part, coalesce(b.lo, 1) AS a, coalesce(b.top, 0) AS b, coalesce(b.version, 0) AS c, coalesce(b.truncated, 0) AS d,
  CASE WHEN b.counts > 0 THEN (SELECT count(*) FROM {p}entries e WHERE e.topic_id = b.id AND e.state = 1 AND e.pos >= b.lo
    AND (e.expires_at IS NULL OR e.expires_at > b.now)) ELSE 0 END AS e,
  coalesce(b.epoch, m.epoch) AS f, CAST(NULL AS {blob}) AS g
FROM {p}meta m LEFT JOIN b ON m.id = 1 WHERE m.id = 1`

	readEntries = `
UNION ALL SELECT * FROM (SELECT 1, e.pos, e.sent_at, 0, 0, 0, '', CASE WHEN e.expires_at <= (SELECT now FROM p) THEN NULL ELSE e.data END
  FROM {p}entries e WHERE e.topic_id = (SELECT id FROM b) AND e.pos >= (SELECT lo FROM b) AND `
	readForward  = `e.pos > (SELECT bound FROM p) ORDER BY e.pos LIMIT (SELECT n FROM p)) x`
	readBackward = `e.pos < (SELECT bound FROM p) ORDER BY e.pos DESC LIMIT (SELECT n FROM p)) x`

	// Runs of the same state: in one, the offset and the number of the row rise together.
	readMarks = `
UNION ALL SELECT x.state, min(x.pos), max(x.pos), 0, 0, 0, '', CAST(NULL AS {blob}) FROM (
  SELECT e.state, e.pos, e.pos - row_number() OVER (PARTITION BY e.state ORDER BY e.pos) AS run
  FROM {p}entries e WHERE e.topic_id = (SELECT id FROM b) AND e.state IN (2, 3) AND e.pos >= (SELECT lo FROM b)) x GROUP BY x.state, x.run`
)

// readHeads is readHead for many topics. The last row of the answer is about all that do not exist.
const readHeads = `WITH w(i, name, now) AS ({w}),
b AS (SELECT w.i, w.now, t.id, t.epoch, t.top, t.version, t.truncated, t.counts,
  CASE WHEN t.age > 0 AND t.last_at <= w.now - t.age THEN t.top + 1
  ELSE coalesce((SELECT e.pos FROM {p}entries e WHERE e.topic_id = t.id AND e.pos >= t.first AND (t.age = 0 OR e.stored_at > w.now - t.age)
    ORDER BY e.pos LIMIT 1), t.top + 1) END AS lo
  FROM w JOIN {p}topics t ON t.name = w.name)
SELECT b.i, b.top, b.version, b.truncated,
  CASE WHEN b.counts > 0 THEN (SELECT count(*) FROM {p}entries e WHERE e.topic_id = b.id AND e.state = 1 AND e.pos >= b.lo
    AND (e.expires_at IS NULL OR e.expires_at > b.now)) ELSE 0 END, b.epoch FROM b
UNION ALL SELECT -1, 0, 0, 0, 0, m.epoch FROM {p}meta m WHERE m.id = 1`

// Heads implements [parley.Store]. It is a single statement for up to 1024 topics.
func (s *Store) Heads(ctx context.Context, topics []string) ([]parley.Head, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	heads, now := make([]parley.Head, len(topics)), s.clock.now()
	rows := make([][]any, len(topics))
	for i, topic := range topics {
		rows[i] = []any{i, []byte(topic), now}
	}
	var absent string
	err := s.queryEach(ctx, s.db, readHeads, "ibi", rows, func(r *sql.Rows) error {
		var i int
		var h parley.Head
		err := r.Scan(&i, &h.Top, &h.Version, &h.Truncated, &h.Unread, &h.Epoch)
		if i < 0 {
			absent = h.Epoch
		} else {
			heads[i] = h
		}
		return err
	})
	if err != nil {
		return nil, wrap(ctx, err)
	}
	for i := range heads {
		if heads[i].Epoch == "" {
			heads[i].Epoch = absent
		}
	}
	return heads, nil
}

// Read implements [parley.Store].
func (s *Store) Read(ctx context.Context, topic string, q parley.Query) (parley.Page, error) {
	if err := s.ready(ctx); err != nil {
		return parley.Page{}, err
	}
	text, bound := readHead, q.After
	if !q.Forward {
		if bound = q.Before; bound == 0 {
			bound = math.MaxInt64
		}
	}
	if q.Limit > 0 && q.Forward {
		text += readEntries + readForward
	} else if q.Limit > 0 {
		text += readEntries + readBackward
	}
	if q.Marks {
		text += readMarks
	}
	page, err := s.readPage(ctx, s.text(text), []byte(topic), s.clock.now(), bound, int64(q.Limit))
	if err != nil {
		return parley.Page{}, wrap(ctx, err)
	}
	return page, nil
}

func (s *Store) readPage(ctx context.Context, text string, args ...any) (page parley.Page, err error) {
	err = query(ctx, s.db, text, args, func(r *sql.Rows) error {
		var part int
		var a, b, c, d, e int64
		var f string
		var data []byte
		if err := r.Scan(&part, &a, &b, &c, &d, &e, &f, &data); err != nil {
			return err
		}
		switch part {
		case 0:
			page.First, page.Top = a, b
			page.Log = parley.Log{Epoch: f, Version: c, Truncated: d, Unread: int(e)}
		case 1:
			page.Entries = append(page.Entries, parley.Entry{Offset: a, Time: b, Data: slices.Clip(data)})
		case stateRead:
			page.Read = append(page.Read, parley.Span{From: a, To: b})
		case stateArchived:
			page.Archived = append(page.Archived, parley.Span{From: a, To: b})
		}
		return nil
	})
	slices.SortFunc(page.Entries, func(a, b parley.Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	slices.SortFunc(page.Read, bySpan)
	slices.SortFunc(page.Archived, bySpan)
	return page, err
}

func bySpan(a, b parley.Span) int { return cmp.Compare(a.From, b.From) }
