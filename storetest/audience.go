package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley"
)

func (e *env) addUsers(audience string, ids ...string) {
	e.Helper()
	require.NoErrorf(e, e.store.AddUsers(context.Background(), audience, ids), "AddUsers to %q", audience)
}

func (e *env) removeUsers(audience string, ids ...string) {
	e.Helper()
	require.NoErrorf(e, e.store.RemoveUsers(context.Background(), audience, ids), "RemoveUsers from %q", audience)
}

// audience reads an audience page by page, with different limits on the two nodes.
func (e *env) audience(name string, want []string, why string) {
	e.Helper()
	for node, s := range e.nodes() {
		for _, limit := range []int{1, 3, 1000} {
			got, after := []string{}, ""
			for {
				list, err := s.Users(context.Background(), name, after, limit)
				require.NoErrorf(e, err, "Users of %q after %q", name, after)
				require.LessOrEqualf(e, len(list), limit, "the limit of Users on %s", node)
				got = append(got, list...)
				if len(list) < limit {
					break
				}
				require.Greaterf(e, list[len(list)-1], after, "Users after %q on %s", after, node)
				after = list[len(list)-1]
			}
			require.Equalf(e, append([]string{}, want...), got, "pages of %d on %s: %s", limit, node, why)
		}
	}
}

var audienceCases = []storeCase{
	{name: "Audience/that nobody was added to is empty", run: func(e *env) {
		name := e.topic()
		e.audience(name, nil, "never used")
		e.addUsers(name)
		e.removeUsers(name)
		e.removeUsers(name, "a", "b")
		e.audience(name, nil, "nobody was added")
	}},
	{name: "Audience/users are in it from AddUsers to RemoveUsers", run: func(e *env) {
		name := e.topic()
		e.addUsers(name, "b", "a", "b")
		e.addUsers(name, "c", "a")
		e.audience(name, []string{"a", "b", "c"}, "each once")
		e.removeUsers(name, "a", "z", "a")
		e.audience(name, []string{"b", "c"}, "a was removed; z was never there")
		e.removeUsers(name, "c", "b")
		e.audience(name, nil, "all were removed")
		e.addUsers(name, "b")
		e.audience(name, []string{"b"}, "b came back")
	}},
	{name: "Audience/Users are in ascending byte order", run: func(e *env) {
		name := e.topic()
		ids := slices.Clone(oddNames())
		e.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		e.addUsers(name, ids[:len(ids)/2]...)
		e.addUsers(name, ids[len(ids)/2:]...)
		slices.Sort(ids)
		e.audience(name, ids, "byte order")
		for i, id := range ids {
			list, err := e.peer.Users(context.Background(), name, id, 2)
			require.NoErrorf(e, err, "Users after %.50q", id)
			require.Equalf(e, append([]string{}, ids[i+1:min(len(ids), i+3)]...), append([]string{}, list...), "two users after %.50q", id)
		}
		for i, id := range ids {
			e.removeUsers(name, id)
			list, err := e.peer.Users(context.Background(), name, "", 1000)
			require.NoError(e, err)
			require.Equalf(e, append([]string{}, ids[i+1:]...), append([]string{}, list...), "after %.50q was removed", id)
		}
	}},
	{name: "Audience/after need not be in it", run: func(e *env) {
		name := e.topic()
		e.addUsers(name, "b", "d", "f")
		for after, want := range map[string][]string{
			"": {"b", "d"}, "a": {"b", "d"}, "b": {"d", "f"}, "b\x00": {"d", "f"}, "c": {"d", "f"}, "d": {"f"}, "e": {"f"}, "f": {}, "g": {}, "\U0010ffff": {},
		} {
			list, err := e.store.Users(context.Background(), name, after, 2)
			require.NoErrorf(e, err, "Users after %q", after)
			require.Equalf(e, want, append([]string{}, list...), "Users after %q", after)
		}
	}},
	{name: "Audience/pages miss nobody who stays while others come and go", run: func(e *env) {
		name := e.topic()
		var stay []string
		for i := range 300 {
			stay = append(stay, fmt.Sprintf("%03d-stays", i))
		}
		e.addUsers(name, stay...)
		got, after := []string{}, ""
		for page := 0; ; page++ {
			list, err := e.store.Users(context.Background(), name, after, 7)
			require.NoError(e, err)
			if len(list) == 0 {
				break
			}
			require.IsIncreasing(e, append([]string{after}, list...), "each page begins after the one before")
			got, after = append(got, list...), list[len(list)-1]
			e.addUsers(name, fmt.Sprintf("%03d-comes", (page*37)%300))
			e.removeUsers(name, fmt.Sprintf("%03d-comes", (page*17)%300))
		}
		got = slices.DeleteFunc(got, func(id string) bool { return strings.HasSuffix(id, "-comes") })
		require.Equal(e, stay, got)
	}},
	{name: "Audience/of thousands of users, in pages", run: func(e *env) {
		name := e.topic()
		var ids []string
		for i := range 4000 {
			ids = append(ids, fmt.Sprintf("user-%04d", i))
		}
		in := map[string]bool{}
		check := func(why string) {
			var want, got []string
			for _, id := range ids {
				if in[id] {
					want = append(want, id)
				}
			}
			for after := ""; ; after = got[len(got)-1] {
				list, err := e.peer.Users(context.Background(), name, after, 700)
				require.NoErrorf(e, err, "Users after %q", after)
				if got = append(got, list...); len(list) < 700 {
					break
				}
				require.LessOrEqualf(e, len(got), len(ids), "%s: the pages do not end", why)
			}
			require.Truef(e, slices.Equal(want, got), "%s: %d users are in it, and the pages have %d, or in another order", why, len(want), len(got))
		}
		shuffled := slices.Clone(ids)
		e.rng.Shuffle(len(ids), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for chunk := range slices.Chunk(shuffled, 1000) {
			e.addUsers(name, chunk...)
			for _, id := range chunk {
				in[id] = true
			}
			check("added at random")
		}
		for chunk := range slices.Chunk(shuffled[:3900], 1300) {
			e.removeUsers(name, chunk...)
			for _, id := range chunk {
				delete(in, id)
			}
			check("removed at random")
		}
		e.addUsers(name, ids[1000:3000]...)
		for _, id := range ids[1000:3000] {
			in[id] = true
		}
		check("added in order")
		e.removeUsers(name, ids...)
		clear(in)
		check("all were removed")
	}},
	{name: "Audience/names are opaque and kept apart from each other (S10, S38)", run: func(e *env) {
		var names []string
		for _, odd := range oddNames() {
			names = append(names, e.prefix+odd, odd+e.prefix)
		}
		for _, end := range []string{"1", "2", ""} {
			names = append(names, e.prefix+strings.Repeat("x", 300-len(e.prefix)-len(end))+end)
		}
		for i, name := range names {
			e.addUsers(name, "everybody", fmt.Sprint(i))
		}
		for i, name := range names {
			list, err := e.peer.Users(context.Background(), name, "", 10)
			require.NoErrorf(e, err, "Users of %.320q", name)
			require.Equalf(e, []string{fmt.Sprint(i), "everybody"}, list, "Users of %.320q", name)
		}
		for i := 0; i < len(names); i += 2 {
			e.removeUsers(names[i], "everybody", fmt.Sprint(i))
		}
		for i, name := range names {
			list, err := e.store.Users(context.Background(), name, "", 10)
			require.NoErrorf(e, err, "Users of %.320q", name)
			require.Lenf(e, list, 2*(i%2), "Users of %.320q, after those of every other audience were removed", name)
		}
	}},
	{name: "Audience/neither keeps nor changes the slices given", run: func(e *env) {
		name := e.topic()
		ids := []string{"c", "a", "b", "a"}
		e.addUsers(name, ids...)
		require.Equal(e, []string{"c", "a", "b", "a"}, ids, "AddUsers must not write to it")
		copy(ids, []string{"x", "x", "x", "x"})
		list, err := e.store.Users(context.Background(), name, "", 10)
		require.NoError(e, err)
		e.addUsers(name, "aa")
		e.removeUsers(name, "b")
		require.Equal(e, []string{"a", "b", "c"}, list, "what was returned does not change")
		e.audience(name, []string{"a", "aa", "c"}, "the caller used its slices again")
	}},
	{name: "Audience/a topic, a room and an audience of one name do not touch each other", run: func(e *env) {
		name := e.topic()
		log := e.log(name, keep(9), counted(1, 2)...)
		e.enter(name, "n1", long, users("in-the-room")...)
		e.addUsers(name, "in-the-audience")
		require.Equal(e, log, e.all(name).Log)
		e.expect(name, users("in-the-room"), "after AddUsers")
		e.mark(name, parley.Mark{As: parley.MarkRead, UpTo: 2})
		e.leave(name, "n1", "in-the-room", "in-the-audience")
		e.audience(name, []string{"in-the-audience"}, "after Mark and Leave")
		e.removeUsers(name, "in-the-audience")
		e.stands(name, 0, spansOf(1, 2), nil, "after RemoveUsers")
	}},
}
