module github.com/parley-go/parley/examples

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/parley-go/parley v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/parley-go/parley => ../
