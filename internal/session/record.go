package session

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"
)

// record is a session as Redis holds it; scripts.lua says how. Its values are sealed; "" is a value that there is not.
type record struct {
	version, due             int64
	sid, words               string
	since, seen, end, tried  time.Time
	identity, tokens, values string
	isCut                    bool    // the tokens were not read
	who                      *person // whom identity tells of; nil: nobody is signed in
}

var errLine = errors.New("the line is none of a session's")

// parseRecord reads a session, or as much of it as a page needs: not ok if that is not there.
func parseRecord(value string) (r record, ok bool) {
	line, rest, ok := strings.Cut(value, "\n")
	if !ok || r.parseLine(line) != nil {
		return record{}, false
	}
	for _, part := range []*string{&r.identity, &r.values, &r.tokens} {
		size, n := binary.Uvarint([]byte(rest[:min(len(rest), binary.MaxVarintLen64)]))
		if n <= 0 || size > uint64(len(rest)-n) {
			r.isCut = true
			return r, part == &r.tokens
		}
		*part, rest = rest[n:n+int(size)], rest[n+int(size):]
	}
	return r, true
}

// body is what follows the line: what every page needs comes first.
func (r *record) body() []byte {
	var body []byte
	for _, part := range []string{r.identity, r.values, r.tokens} {
		body = append(binary.AppendUvarint(body, uint64(len(part))), part...)
	}
	return body
}

// parseLine reads what scripts keep in clear.
func (r *record) parseLine(line string) error {
	words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 8)
	if len(words) < 8 || words[4] != "-" && len(words[4]) != sidLength {
		return errLine
	}
	var n [7]int64
	for i := range n {
		if i == 4 {
			continue
		}
		var err error
		if n[i], err = strconv.ParseInt(words[i], 10, 64); err != nil {
			return errLine
		}
	}
	r.version, r.sid, r.due, r.words = n[0], words[4], n[5], words[7]
	r.seen, r.end, r.since, r.tried = time.UnixMilli(n[1]), time.UnixMilli(n[2]), time.UnixMilli(n[3]), time.UnixMilli(n[6])
	return nil
}
