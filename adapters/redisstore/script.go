package redisstore

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/parley-go/parley"
)

// program is what Redis runs in one atomic step. Redis knows it by its hash once it has had the source.
type program struct{ source, hash string }

// script is a program for servers that may lose something when they are started again, and one for those that do not (Options.Durable).
type script struct{ lossy, durable program }

func newScript(parts ...string) *script {
	source := strings.Join(parts, "")
	return &script{lossy: newProgram("local DURABLE = false\n" + source), durable: newProgram("local DURABLE = true\n" + source)}
}

func newProgram(source string) program {
	source = fmt.Sprintf("local WINDOW = %d\n", parley.IdempotencyWindow.Milliseconds()) + source
	sum := sha1.Sum([]byte(source))
	return program{source: source, hash: hex.EncodeToString(sum[:])}
}

func (s *script) program(durable bool) program {
	if durable {
		return s.durable
	}
	return s.lossy
}

var (
	//go:embed lua/server.lua
	luaServer string
	//go:embed lua/log.lua
	luaLog string
	//go:embed lua/settle.lua
	luaSettle string
	//go:embed lua/append.lua
	luaAppend string
	//go:embed lua/message.lua
	luaMessage string
	//go:embed lua/topics.lua
	luaTopics string
	//go:embed lua/quick.lua
	luaQuick string
	//go:embed lua/read.lua
	luaRead string
	//go:embed lua/mark.lua
	luaMark string
	//go:embed lua/due.lua
	luaDue string
	//go:embed lua/claim.lua
	luaClaim string
	//go:embed lua/await.lua
	luaAwait string
	//go:embed lua/find.lua
	luaFind string
	//go:embed lua/take.lua
	luaTake string
	//go:embed lua/room.lua
	luaRoom string
	//go:embed lua/enter.lua
	luaEnter string
	//go:embed lua/leave.lua
	luaLeave string
	//go:embed lua/members.lua
	luaMembers string
	//go:embed lua/status.lua
	luaStatus string

	scriptAppend  = newScript(luaServer, luaMessage, "local function whole(KEYS, ARGV)\n", luaLog, luaSettle, luaAppend, "end\n", luaTopics)
	scriptQuick   = newScript(luaServer, luaMessage, luaQuick)
	scriptRead    = newScript(luaServer, luaLog, luaRead)
	scriptMark    = newScript(luaServer, luaLog, luaSettle, luaMark)
	scriptDue     = newScript(luaServer, luaLog, luaDue)
	scriptClaim   = newScript(luaServer, luaLog, luaSettle, luaClaim)
	scriptAwait   = newScript(luaAwait)
	scriptFind    = newScript(luaFind)
	scriptTake    = newScript(luaTake)
	scriptEnter   = newScript(luaRoom, luaEnter)
	scriptLeave   = newScript(luaRoom, luaLeave)
	scriptMembers = newScript(luaRoom, luaMembers)
	scriptStatus  = newScript(luaStatus)
)
