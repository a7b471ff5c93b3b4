package filestore

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// record is one line of the file: an Append, or the beginning of an epoch,
// before which there is nothing.
type record struct {
	Epoch   string        `json:"epoch,omitempty"`
	Topic   string        `json:"topic,omitempty"`
	Keep    int           `json:"keep,omitempty"`
	Age     time.Duration `json:"age,omitempty"` // in ns
	At      int64         `json:"at,omitempty"`  // ns since 1970
	Entries []entry       `json:"entries,omitempty"`
}

// entry is a message that was new. Data travels as base64, because JSON would
// not keep it byte for byte.
type entry struct {
	Key  string `json:"key,omitempty"`
	Time int64  `json:"time,omitempty"`
	Data []byte `json:"data"`
}

// line encodes the record. The newline at the end says that it is whole.
func (r record) line() ([]byte, error) {
	b, err := json.Marshal(r)
	return append(b, '\n'), err
}

// replay hands every whole record of a file to apply, and returns where the
// last one ends. A part of a record at the end is what was being written when
// the process died: its Append never returned. Anywhere else it is an error.
func replay(file *os.File, apply func(record)) (end int64, err error) {
	r := bufio.NewReader(io.NewSectionReader(file, 0, 1<<62))
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, err
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return end, fmt.Errorf("damaged at byte %d: %w", end, err)
		}
		if rec.Epoch == "" && (end == 0 || rec.Keep == 0) {
			return end, fmt.Errorf("damaged at byte %d: want an epoch first, then epochs and Appends", end)
		}
		apply(rec)
		end += int64(len(line))
	}
}
