package checker

import (
	"context"
	"fmt"
)

// online compares, when all is quiet, what each hub says of nodes, connections and users with where the clients are.
func (r *runner) online() {
	ctx := context.Background()
	conns := make(map[string]int)
	all := 0
	for _, c := range r.clients {
		conns[c.User()]++
		all++
	}
	for _, n := range r.nodes {
		hub := n.current()
		infos, err := hub.Nodes(ctx)
		sum := 0
		for _, info := range infos {
			sum += info.Connections
		}
		if err != nil || sum != all || len(infos) != len(r.nodes) {
			r.leak("node %d says that there are %d nodes with %d connections: %+v (%v), but there are %d with %d", n.number, len(infos), sum, infos, err, len(r.nodes), all)
		}
		if err := hub.Ready(); err != nil {
			r.leak("node %d is not ready: %v", n.number, err)
		}
		if err := hub.Healthy(); err != nil {
			r.leak("node %d is not healthy: %v", n.number, err)
		}
		for i := range r.plan.Users {
			user := userName(i)
			listed, err := hub.Connections(ctx, user)
			if err != nil || len(listed) != conns[user] {
				r.leak("node %d lists the connections %+v of %s (%v), but there are %d", n.number, listed, user, err, conns[user])
			}
			if !tracksUsers {
				continue
			}
			status, err := hub.Status(ctx, user, "nobody")
			if err != nil || len(status) != 2 || status[0].Online != (conns[user] > 0) || status[1].Online {
				r.leak("node %d says that %s and nobody are %+v (%v), but %d devices are connected", n.number, user, status, err, conns[user])
			}
		}
	}
}

// name is Options.NodeName.
func (n *node) name() string { return fmt.Sprint("node", n.number) }
