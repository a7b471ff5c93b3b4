module github.com/parley-go/parley/bench

go 1.26.0

require (
	github.com/parley-go/parley v0.0.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/parley-go/parley => ../
