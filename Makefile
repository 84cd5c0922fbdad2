# brig. `make help` lists the targets; every one works from a clean clone.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help

VERSION ?= $(shell cat VERSION)$(shell git rev-parse --short=12 HEAD 2>/dev/null | sed 's/^/+/')
LDFLAGS := -s -w -X brig/internal/version.Version=$(VERSION)
STATIC  := CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)"

SHIM     := shim/containerd-shim-brig-v1
BINARIES := \
	nodeagent/brigd \
	nodeagent/brig \
	nodeagent/brig-probe \
	cni/brig-cni \
	hooks/nvidia-cdi-hook

# There is a shim to each sandbox. By containerd's tag it does without a GRPC that no shim
# speaks, a third of the program; and by Go's older collector, as long as Go has it, without
# what the newer one keeps in every span, a twentieth of an idle shim's memory.
NOGREENTEA := $(shell GOEXPERIMENT=nogreenteagc go version >/dev/null 2>&1 && echo nogreenteagc)
SHIM_BUILD  = GOEXPERIMENT=$(NOGREENTEA) $(STATIC) -tags no_grpc

# What runs inside sandboxes lies in a folder of its own, which they see.
GUESTS := nodeagent/brig-idle nodeagent/brig-files

# gVisor calls itself by this version; restores depend on it.
RUNSC_VERSION := $(shell sed -n 's/.*gvisor.dev\/gvisor v0.0.0-\([0-9]*\)-\([0-9a-f]*\)$$/\1-\2/p' tools/runsc/go.mod)
RUNSC_LDFLAGS := -s -w -X gvisor.dev/gvisor/runsc/version.version=$(RUNSC_VERSION)

# What the suites that need root need, too; a missing one is then a failure.
REQUIRE := root,net,runsc

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## brig's own static binaries, in bin/
	@mkdir -p bin
	$(STATIC) -o bin/ $(addprefix ./,$(BINARIES))
	$(SHIM_BUILD) -o bin/ ./$(SHIM)
	@mkdir -p bin/guest
	$(STATIC) -o bin/guest/ $(addprefix ./,$(GUESTS))

# brigd that dies where it is told to (internal/failpoint), beside links to all that it
# needs; never installed.
.PHONY: failpoints
failpoints: build ## a brigd for tests/crash, in bin/failpoints/
	@mkdir -p bin/failpoints
	$(STATIC) -tags failpoints -o bin/failpoints/ ./nodeagent/brigd
	@for f in deps guest $(notdir $(SHIM) $(filter-out nodeagent/brigd,$(BINARIES))); do ln -sfn ../$$f bin/failpoints/$$f; done

.PHONY: deps
deps: bin/deps/.runsc bin/deps/.containerd bin/deps/.nvcdi ## runsc, containerd, ctr, runc, cnitool, brig-nvcdi from pinned source, in bin/deps/

# gVisor with its edits (tools/runsc/edit).
RUNSC_EDITED := -modfile=../../.cache/runsc/go.mod
RUNSC_BUILD  := CGO_ENABLED=0 go build $(RUNSC_EDITED) -trimpath -tags prefilter -ldflags "$(RUNSC_LDFLAGS)"

bin/deps/.runsc: tools/runsc/go.mod tools/runsc/go.sum $(wildcard tools/runsc/*.go tools/runsc/gvisor_sentry/*.go tools/runsc/prefilter/generate/* tools/runsc/edit/*)
	@mkdir -p bin/deps/gvisor-bin .cache/runsc
	cd tools/runsc && go mod download gvisor.dev/gvisor && go run ./edit ../../.cache/runsc
	cd tools/runsc && CGO_ENABLED=0 go run $(RUNSC_EDITED) ./prefilter/generate prefilter
	cd tools/runsc && $(RUNSC_BUILD) -o ../../bin/deps/runsc .
	cd tools/runsc && $(RUNSC_BUILD) -o ../../bin/deps/gvisor-bin/gvisor_sentry ./gvisor_sentry
	@touch $@

bin/deps/.containerd: tools/containerd/go.mod tools/containerd/go.sum
	@mkdir -p bin/deps
	cd tools/containerd && CGO_ENABLED=0 go build -trimpath -tags no_btrfs,no_zfs -ldflags "-s -w" -o ../../bin/deps/ \
		github.com/containerd/containerd/v2/cmd/containerd \
		github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 \
		github.com/containerd/containerd/v2/cmd/ctr \
		github.com/containernetworking/cni/cnitool
	@mkdir -p bin/deps/cni
	cd tools/containerd && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../../bin/deps/cni/ \
		github.com/containernetworking/plugins/plugins/main/ptp \
		github.com/containernetworking/plugins/plugins/ipam/host-local \
		github.com/containernetworking/plugins/plugins/meta/firewall
	cd tools/containerd && go build -trimpath -ldflags "-s -w" -o ../../bin/deps/ github.com/opencontainers/runc
	@touch $@

# The only program of ours with cgo: NVML is a C library, loaded at run time. The one in
# bin/mock has eight GPUs that are not there, for tests; never installed.
NVCDI_BUILD := CGO_CFLAGS="-O2 -Wno-deprecated-declarations" go build -trimpath -ldflags "-s -w"

bin/deps/.nvcdi: tools/nvcdi/go.mod tools/nvcdi/go.sum $(wildcard tools/nvcdi/*.go)
	@mkdir -p bin/deps bin/mock
	cd tools/nvcdi && $(NVCDI_BUILD) -o ../../bin/deps/brig-nvcdi .
	cd tools/nvcdi && $(NVCDI_BUILD) -tags mock -o ../../bin/mock/brig-nvcdi .
	@touch $@

# The containerds before the one of the node, each from the newest of its module.
OLDER := 2.2 2.1 1.7

bin/deps/containerd-%/.built: tools/containerd-%/go.mod tools/containerd-%/go.sum
	@mkdir -p $(@D)
	cd tools/containerd-$* && CGO_ENABLED=0 go build -trimpath -tags no_btrfs,no_zfs -ldflags "-s -w" -o ../../$(@D)/ tool
	@touch $@

# The suites that drive a whole node; all other packages are tested by any user.
SUITES := ./tests/bench ./tests/crash ./tests/cri ./tests/defects ./tests/e2e ./tests/isolation
UNITS   = $$(go list ./... | grep -vE '^brig/tests/(bench|compat|crash|cri|defects|e2e|isolation)$$')

.PHONY: lint
lint: ## format, vet and the linter, all at zero
	@test -z "$$(gofmt -l */)" || { gofmt -d */; exit 1; } # not what is copied to .cache
	go vet ./...
	cd tools/nvcdi && go vet . && go vet -tags mock .
	go tool -modfile=tools/lint/go.mod golangci-lint run

.PHONY: check
check: lint ## the inner loop: lint, unit tests with the race detector; any user, no network
	go test -race $(UNITS)
	cd tools/nvcdi && go test -tags mock .

.PHONY: test
test: root packages build failpoints deps lint ## everything, as root; leaves the machine as it was
	BRIG_REQUIRE=$(REQUIRE) go test -race -count=1 $(UNITS)
	cd tools/nvcdi && BRIG_REQUIRE=$(REQUIRE) go test -tags mock -count=1 .
	go build ./... # on all cores: the next line has one at a time, for the census
	BRIG_REQUIRE=$(REQUIRE) go test -count=1 -p 1 -parallel 4 -timeout 20m $(SUITES)

.PHONY: crash
crash: root packages build failpoints deps ## brigd killed at every step of everything, and a thousand times at random; as root
	BRIG_REQUIRE=$(REQUIRE) go test -count=1 -timeout 2h ./tests/crash -run 'Brigd' -long

.PHONY: root
root:
	@test "$$(id -u)" = 0 || { echo "this needs root: sudo make $(MAKECMDGOALS)"; exit 1; }

# What building and testing need of the system, installed if it is missing.
PACKAGES := nftables iproute2 iptables busybox-static erofs-utils ca-certificates curl python3 gcc libc6-dev
.PHONY: packages
packages:
	@missing=$$(for p in $(PACKAGES); do \
		test "$$(dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null)" = installed || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "install these first: "$$missing; exit 1; }; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	fi

.PHONY: compat
compat: root packages build deps $(OLDER:%=bin/deps/containerd-%/.built) ## the shim under every containerd that it is made for; as root
	BRIG_REQUIRE=root,runsc,containerds go test -count=1 -timeout 20m ./tests/compat

.PHONY: demo
demo: root build deps ## a throwaway node, the README's example on it, everything removed; as root
	go run ./tests/demo

.PHONY: bench
bench: root packages build deps ## brig beside its peers on this machine, as ratios; BENCH=quick in 3 minutes; as root
ifeq ($(BENCH),quick)
	go run ./tests/bench -quick -out bin/bench
else
	go run ./tests/bench -out docs/benchmarks
	go run ./tests/bench -trace -out docs/benchmarks
	go run ./tests/bench -trace -pool 4 -out docs/benchmarks
endif

.PHONY: conformance
conformance: root packages build deps ## containerd's own client suite against the shim; as root
	go run ./tests/conformance

.PHONY: dist
dist: build deps ## an archive of the binaries with checksums, for install.sh --from
	./deploy/dist.sh $(VERSION)

.PHONY: gpu
gpu: root packages build deps ## the tests that need an NVIDIA GPU, on this machine; as root
	./tests/gpu/kit.sh parts
	BRIG_REQUIRE=root,runsc,gpu go test -count=1 -v -timeout 20m ./tests/gpu

.PHONY: gpu-kit
gpu-kit: packages build deps ## the same for a machine without Go or network: dist/gpu-kit/run.sh
	./tests/gpu/kit.sh

.PHONY: fmt
fmt: ## format everything
	gofmt -w */

.PHONY: generate
generate: .cache/proto/buf ## the protocol's Go code, its OpenAPI file and every golden file
	PATH=$(CURDIR)/.cache/proto:$$PATH buf generate
	PATH=$(CURDIR)/.cache/proto:$$PATH buf generate --template buf.gen.openapi.yaml
	cd tools/nvcdi && UPDATE=1 go test -tags mock -count=1 -run Golden .
	go test $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n1 dirname | sort -u) -run Golden -update

.cache/proto/buf: tools/proto/go.mod tools/proto/go.sum tools/openapi/go.mod tools/openapi/go.sum
	@mkdir -p .cache/proto
	cd tools/proto && go build -o ../../.cache/proto/ tool
	cd tools/openapi && go build -o ../../.cache/proto/ tool
	@touch $@

.PHONY: baseline
baseline: .cache/proto/buf ## what later protocols are held against: at a release, or when a break is meant
	PATH=$(CURDIR)/.cache/proto:$$PATH buf build nodeagent/api --exclude-source-info -o nodeagent/api/baseline.binpb

.PHONY: man
man: ## the manual pages of brig, in dist/man
	go run -ldflags "$(LDFLAGS)" ./nodeagent/brig/manual dist/man

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist .cache
