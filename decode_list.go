package parley

// list reads an array of P2.3: of offsets, or of ids.
func (d *decoder) list(f field) bool {
	start := d.pos
	if !d.value(1) {
		return false
	}
	// It is JSON, so that the walk over its items cannot fail.
	items := decoder{scanner: scanner{data: d.data[:d.pos], pos: start}}
	if items.peek() != '[' || !items.each(f, d.in) {
		d.in.Offsets, d.in.IDs = nil, nil
		what := " must be an array of 1 to 100 integers from 0 to 9007199254740991"
		if f == fieldIDs {
			what = " must be an array of 1 to 100 strings of 1 to 255 bytes without control characters"
		}
		d.refuse("", f, what)
	}
	return true
}

// each adds the items of an array to in. It reports false if one breaks a rule, or their number does.
func (d *decoder) each(f field, in *inbound) bool {
	d.pos++ // the bracket
	for n := 0; ; n++ {
		d.space()
		switch d.peek() {
		case ']':
			return n > 0
		case ',':
			d.pos++
			d.space()
		}
		if n == maxListed || !d.item(f, in) {
			return false
		}
	}
}

func (d *decoder) item(f field, in *inbound) bool {
	if f == fieldOffsets {
		start := d.pos
		d.value(1)
		n, ok := parseInteger(d.data[start:d.pos])
		in.Offsets = append(in.Offsets, n)
		return ok
	}
	if d.peek() != '"' {
		return false
	}
	t, _ := d.str()
	s, ok := t.decode(f)
	in.IDs = append(in.IDs, s)
	return ok
}
