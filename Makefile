# Everything a maintainer does has a target here. The program is one static binary.
GO      ?= go
export CGO_ENABLED ?= 0

.PHONY: all build check test demo bench fuzz docs clean

all: build

build:
	$(GO) build -trimpath -buildvcs=auto -ldflags "-s -w" -o bin/cc-ci ./cmd/cc-ci

# The main job, from a fresh clone to a green run.
demo: build
	bin/cc-ci demo

# The quick loop: no server is started.
check:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	$(GO) build ./...
	$(GO) test -short ./...

# Everything, with real servers. The wrapper makes Docker, restic and Chromium
# available, and stops what it started.
test: build
	$(GO) run -trimpath ./internal/testserver/testenv -- ./.ci/test

bench: build
	$(GO) run -trimpath ./internal/testserver/testenv -- $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 40m ./internal/bench

# One CPU-minute for each parser.
FUZZTIME ?= 30s
fuzz:
	.ci/fuzz $(FUZZTIME)

docs: build
	bin/cc-ci config doc > docs/settings.md
	bin/cc-ci config doc admission > docs/admission.md

clean:
	rm -rf bin
