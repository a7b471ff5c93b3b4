# The checks that CI runs, one by one. `make check` is the quick set for every commit.
GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
MODULES := . adapters/natsstore adapters/redisstore adapters/sqlstore bench examples integration

.PHONY: check test lint bench js fuzz

check: lint test

test:
	$(GO) test -race work

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	$(GO) vet work
	@for m in $(MODULES); do (cd $$m && $(GO) run $(STATICCHECK) ./...) || exit 1; done
	$(GO) run ./internal/size

bench:
	$(GO) run ./bench

js:
	cd js && npm ci --no-audit --no-fund && npm test && npm run size

# A minute for each fuzz target; CI gives each a few seconds.
FUZZTIME ?= 60s
fuzz:
	@for p in . ./client; do for f in $$(grep -ho 'func Fuzz[A-Za-z0-9]*' $$p/*_test.go | cut -c6-); do \
		$(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done
