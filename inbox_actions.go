package parley

import "errors"

// What clients do with their own inbox (docs/protocol.md, section 8). That they can name no
// other is what keeps them out of it.

var errNoInbox = NewError(CodeForbidden, "anonymous users have no inbox: log in first")

func (c *Conn) onRead(in *inbound) (answer, error)    { return c.onMark(in, MarkRead) }
func (c *Conn) onUnread(in *inbound) (answer, error)  { return c.onMark(in, MarkUnread) }
func (c *Conn) onArchive(in *inbound) (answer, error) { return c.onMark(in, MarkArchived) }

func (c *Conn) onMark(in *inbound, as MarkAs) (answer, error) {
	if c.inbox == nil {
		return answer{}, errNoInbox
	}
	s, err := in.selection()
	if err != nil {
		return answer{}, err
	}
	m, err := s.mark(as)
	if err != nil {
		return answer{}, err
	}
	log, err := c.inbox.topic.mark(c.ctx, m)
	if mutant("mark-anyway") && errors.Is(err, ErrStore) {
		err = nil
	}
	if err != nil || in.ID == "" {
		return answer{}, err
	}
	return answer{done: true}, c.push(newFrame(appendMarkAck(newBuffer(128), in.ID, log)))
}

// selection reads what a mark is about (P8.4).
func (in *inbound) selection() (Selection, error) {
	picked := 0
	for _, set := range []bool{in.HasOffset, in.Offsets != nil, in.IDs != nil} {
		if set {
			picked++
		}
	}
	switch {
	case picked != 1:
		return Selection{}, NewError(CodeBadRequest, `exactly one of "offset" (up to there), "offsets" and "ids" is needed`)
	case in.IDs == nil && in.Epoch == "":
		return Selection{}, NewError(CodeBadRequest, `"epoch" is missing: offsets count only together with it`)
	case in.HasOffset && in.Offset == 0:
		return Selection{}, NewError(CodeBadRequest, `"offset" must be at least 1`)
	}
	for _, offset := range in.Offsets {
		if offset == 0 {
			return Selection{}, NewError(CodeBadRequest, `"offsets" must be at least 1`)
		}
	}
	return Selection{Epoch: in.Epoch, UpTo: in.Offset, Offsets: in.Offsets, IDs: in.IDs}, nil
}

// onReceived notes what a device has (P8.6).
func (c *Conn) onReceived(in *inbound) (answer, error) {
	switch {
	case c.inbox == nil:
		return answer{}, errNoInbox
	case !in.HasEpoch || !in.HasOffset:
		return answer{}, NewError(CodeBadRequest, `"epoch" and "offset" are needed: they say up to where this device has the inbox`)
	}
	err := c.received(position{in.Epoch, in.Offset})
	if in.ID == "" && (errors.Is(err, ErrStore) || errors.Is(err, positionError{codeReset})) {
		return answer{}, nil // nobody waits for it: the next one says this, too, and of a lost log an inbox tells
	}
	return answer{}, err
}

func (c *Conn) received(pos position) error {
	if !c.hub.watchesReceipts() || pos.offset == 0 || mutant("unreceived") {
		return nil
	}
	_, err := c.inbox.topic.storeMark(c.ctx, Mark{As: MarkReceived, Epoch: pos.epoch, UpTo: pos.offset})
	return err
}

// inboxHistory answers a request for a page of the own inbox.
func (c *Conn) inboxHistory(in *inbound) (answer, error) {
	if c.inbox == nil {
		return answer{}, errNoInbox
	}
	// Authorize is not asked: the newest page came at connecting, without a wish of the client.
	if err := c.out.awaitRoom(c.ctx); err != nil {
		return answer{}, err
	}
	t := c.inbox.topic
	page, err := t.read(c.ctx, Query{Before: in.Before, Limit: pageLimit(int(in.Limit))})
	if err != nil {
		return answer{}, err
	}
	page.Entries = t.newestFitting(page.Entries)
	return c.sendPage(in.ID, historyMessage{Type: "inbox", Marks: &page}, page)
}
