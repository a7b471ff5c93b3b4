package redisstore

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
)

// script is a program that Redis runs in one atomic step. Redis knows it by its hash once it has had the source.
type script struct{ source, hash string }

func newScript(parts ...string) *script {
	source := ""
	for _, part := range parts {
		source += part
	}
	sum := sha1.Sum([]byte(source))
	return &script{source: source, hash: hex.EncodeToString(sum[:])}
}

var (
	//go:embed lua/log.lua
	luaLog string
	//go:embed lua/settle.lua
	luaSettle string
	//go:embed lua/append.lua
	luaAppend string
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

	scriptAppend  = newScript(luaLog, luaSettle, luaAppend)
	scriptRead    = newScript(luaLog, luaRead)
	scriptMark    = newScript(luaLog, luaSettle, luaMark)
	scriptDue     = newScript(luaLog, luaDue)
	scriptClaim   = newScript(luaLog, luaSettle, luaClaim)
	scriptAwait   = newScript(luaAwait)
	scriptFind    = newScript(luaFind)
	scriptTake    = newScript(luaTake)
	scriptEnter   = newScript(luaRoom, luaEnter)
	scriptLeave   = newScript(luaRoom, luaLeave)
	scriptMembers = newScript(luaRoom, luaMembers)
	scriptStatus  = newScript(luaStatus)
)
