//go:build parley_mutants

package checker_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// mutants are the mistakes that the server and the Go client make on demand
// (mutant_on.go), with what should give each away.
var mutants = []struct{ name, mistake string }{
	{"drop1in500", "one in 500 messages to a member is lost"},
	{"twice", "one in 500 is sent twice"},
	{"swap", "two neighbours are exchanged"},
	{"noepoch", "resuming does not compare epochs"},
	{"nooffset", "the newest history is passed off as what was missed"},
	{"partial", "what is kept of what was missed is passed off as all of it"},
	{"edge", "the window in which a client can resume is one too small"},
	{"readfirst", "the history is read before subscribing"},
	{"seam", "what comes live is not compared with the history"},
	{"stale", "joins share what was read, however old it is"},
	{"mixed", "histories mix up two messages"},
	{"noinbox", "the position of the inbox is ignored"},
	{"offline", "notifications to nobody are acknowledged, and not stored"},
	{"ackanyway", "a message is acknowledged although the Store has failed"},
	{"nodedupe", "ids of messages are ignored"},
	{"nofill", "holes are not filled from the Store"},
	{"noreset", "nobody is told that the log was lost"},
	{"redeliver", "what the Broker doubles is delivered again"},
	{"parallel", "the messages of one connection are carried out at the same time"},
	{"answers", "acknowledgements come twice"},
	{"echo", "broadcasts come back to their sender"},
	{"leave", "who leaves stays subscribed"},
	{"kick", "DisconnectUser disconnects nobody"},
	{"ghost", "users who have left stay present"},
	{"twosockets", "a connection whose session was resumed stays open"},
	{"undead", "sessions survive a disconnect by the application"},
	{"forged", "private messages name their receiver as sender"},
	{"leak", "topics are never given up"},
	{"stuck", "each connection leaves a goroutine behind"},
	{"client-drop", "the Go client moves past a message that it has not handed out"},
	{"client-own", "the Go client hands out its own broadcasts"},
	{"client-newid", "the Go client sends again with another id"},
	{"client-silent", "the Go client does not tell gaps"},
	{"mark-silent", "devices are not told of what others have marked"},
	{"mark-unresolved", "nor of marks that were made although the Store has failed"},
	{"mark-anyway", "a mark is acknowledged although the Store has failed"},
	{"mark-anyepoch", "marks are made whichever epoch they are of"},
	{"mark-part", "of several entries not all are marked"},
	{"archive-counts", "what is archived still counts as unread"},
	{"count-old", "messages carry the number of unread entries from before"},
	{"uncounted", "messages carry no number of unread entries"},
	{"nospans", "an inbox does not say what was read"},
	{"untruncated", "an inbox does not say that unread entries were removed"},
	{"nottl", "times to live are ignored"},
	{"unreceived", "receipts are ignored"},
	{"overdue-nolease", "what is told as undelivered is not put off"},
	{"overdue-once", "what could not be told as undelivered counts as told"},
	{"overdue-again", "what was told as undelivered is told again"},
	{"client-count", "the Go client takes numbers of unread entries without looking at their version"},
	{"client-deaf", "the Go client does not hear of marks"},
	{"nosync", "quiet topics are not compared with the Store"},
	{"marks-unsynced", "nor is the read state of inboxes"},
	{"ownecho", "what a node has published comes back to its clients"},
	{"presence-local", "changes of presence are told to the clients of one node only"},
	{"noreset-broker", "a Broker that brings nothing is not made to connect anew"},
	{"kick-local", "DisconnectUser disconnects on one node only"},
	{"control-lost", "commands to all nodes are not stored"},
	{"gather-none", "nobody waits for the answers of other nodes"},
}

// ofSeveralNodes are made by hubs with a Broker only.
var ofSeveralNodes = []string{
	"nosync", "marks-unsynced", "ownecho", "presence-local", "noreset-broker", "kick-local", "control-lost", "gather-none",
}

// within is the number of seeds within which each has to be found. Most show in the first ten, the rarest in one of a hundred,
// and where that is depends on how goroutines are scheduled.
const within = 1000

var found = regexp.MustCompile(`seed (\d+) \(\d+ nodes\) breaks [^\n]*\n\s*(P\d+): ([^\n]*)`)

// TestMutants proves the checker: it finds each of the mistakes, and without
// any of them nothing. Each runs in a process of its own.
func TestMutants(t *testing.T) {
	if os.Getenv("PARLEY_MUTANT") != "" {
		t.Skip("this is one")
	}
	results := make([]string, len(mutants))
	var group sync.WaitGroup
	turns := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)) // each uses several cores
	for i, m := range mutants {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			results[i] = runMutant(t, m.name, within)
		})
	}
	group.Wait()
	if got := runMutant(t, "none", 150); got != "" {
		t.Errorf("without a mutant: %s", got)
	}
	var table strings.Builder
	for i, m := range mutants {
		fmt.Fprintf(&table, "\n%-14s %-80s %s", m.name, m.mistake, results[i])
		if results[i] == "" {
			t.Errorf("%s: %d seeds have not shown that %s", m.name, within, m.mistake)
		}
	}
	t.Log(table.String())
}

// runMutant returns what a run of a mutant breaks first, "" if nothing.
func runMutant(t *testing.T, name string, seeds int) string {
	args := []string{"-test.run", "^TestChecker$", "-seeds", strconv.Itoa(seeds), "-shrink", "0"}
	if slices.Contains(ofSeveralNodes, name) {
		args = append(args, "-nodes", "3")
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "PARLEY_MUTANT="+name)
	out, err := cmd.CombinedOutput()
	m := found.FindSubmatch(out)
	switch {
	case m != nil && err != nil:
		return fmt.Sprintf("seed %s, %s: %.90s", m[1], m[2], m[3])
	case err != nil:
		t.Errorf("%s: %v\n%s", name, err, out)
	}
	return ""
}
