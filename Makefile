# Builds and tests this repository. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The test control plane is compiled from the module proxy once, into a directory named by its version.
# If KUBEBUILDER_ASSETS is set (setup-envtest), the binaries there are used, and only missing ones are built.
KUBERNETES_VERSION := $(shell sed -n 's|^[[:space:]]*k8s.io/kubernetes ||p' test/controlplane/go.mod)
CONTROL_PLANE := bin/controlplane-$(KUBERNETES_VERSION)
COMPONENTS := etcd kube-apiserver kube-controller-manager kubectl
ifneq ($(and $(KUBEBUILDER_ASSETS),$(shell cd "$(KUBEBUILDER_ASSETS)" && ls $(COMPONENTS) >/dev/null 2>&1 && echo all)),)
CONTROL_PLANE_BINARY :=
else
CONTROL_PLANE_BINARY := $(CONTROL_PLANE)/controlplane
endif

# Istio, compiled from the module proxy, and Envoy, in a directory named by Istio's version.
ISTIO_VERSION := $(shell sed -n 's|^[[:space:]]*istio.io/istio ||p' test/mesh/go.mod)
MESH := bin/mesh-$(ISTIO_VERSION)

# Kyverno, which `make bench-peers` compares with, in a directory named by its version.
PEERS := bin/peers-$(shell sed -n 's|^[[:space:]]*github.com/kyverno/kyverno \(v[0-9.]*\).*|\1|p' test/peers/kyverno/go.mod)

# golangci-lint, compiled from the module proxy once, into a directory named by its version. Its dependencies stay in
# a module of its own, test/lint.
GOLANGCI_VERSION := $(shell sed -n 's|^[[:space:]]*github.com/golangci/golangci-lint/v2 \(v[0-9.]*\).*|\1|p' test/lint/go.mod)
GOLANGCI_LINT := bin/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# Packages whose tests start a control plane, which are those that use the harness. All others are unit tests, except
# those that need the mesh too.
PACKAGE_IMPORTS = go list -f '{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./...
PROCESS_PACKAGES = $$($(PACKAGE_IMPORTS) | grep /test/harness | cut -d' ' -f1 | grep -v -e /test/demo -e /test/bench -e /test/e2e)
UNIT_PACKAGES = $$($(PACKAGE_IMPORTS) | grep -v -e /test/harness -e /test/bench | cut -d' ' -f1)
# Runs a test or the demo where it may create network devices.
OWN_NETWORK := $(CURDIR)/test/harness/own-network.sh
# All files of the repository except build results. It does not use git, which refuses another user's directory.
FILES := find . \( -path ./.git -o -path ./bin -o -path ./.cache \) -prune -o -type f -print
FUZZ_TIME ?= 10s

# Builds and installs the components of the e2e tests. A test without its components is skipped with the reason, so a
# failure is ignored here unless E2E=required. Without root all are skipped.
define try-wire
	+@[ "$$(id -u)" != 0 ] || $(MAKE) --silent --no-print-directory --keep-going control-plane mesh wire-tools || [ "$(E2E)" != required ]
endef

##@ Build

.PHONY: build
build: ## Build the server and the command line into bin/
	@mkdir -p bin
	go build -o bin/ ./cmd/...

# The arguments of the image, also for `docker build`: docs/release.md.
VERSION ?= $(shell sed -n 's/^appVersion: //p' charts/redis-tls/Chart.yaml)
REVISION ?= $(or $(shell git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null),unknown)
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
PLATFORMS ?= linux/amd64,linux/arm64
CLI_PLATFORMS ?= linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64
RELEASE_FLAGS = -version "$(VERSION)" -revision "$(REVISION)" -epoch "$(SOURCE_DATE_EPOCH)"

.PHONY: image
image: ## Assemble the webhook's image, without a container engine, as an OCI archive with SBOMs in bin/image; VERSION, PLATFORMS
	go run -C release . image $(RELEASE_FLAGS) -out "$(CURDIR)/bin/image" -platforms "$(PLATFORMS)"

.PHONY: cli
cli: ## Build the command line for CLI_PLATFORMS as archives with checksums and krew's manifest, in bin/cli; VERSION
	go run -C release . cli $(RELEASE_FLAGS) -out "$(CURDIR)/bin/cli" -platforms "$(CLI_PLATFORMS)"

.PHONY: control-plane
control-plane: $(CONTROL_PLANE_BINARY) ## Build etcd, kube-apiserver, kube-controller-manager and kubectl for the tests, once

$(CONTROL_PLANE)/controlplane: test/controlplane/main.go test/controlplane/go.mod test/controlplane/go.sum test/controlplane/build.sh
	@test/controlplane/build.sh "$(CURDIR)/$(CONTROL_PLANE)"
	@touch $@

.PHONY: mesh
mesh: $(MESH)/mesh $(MESH)/envoy ## Build istiod and pilot-agent for the e2e tests and fetch Envoy, once

$(MESH)/mesh: $(wildcard test/mesh/*.go) test/mesh/go.mod test/mesh/go.sum test/mesh/build.sh
	@test/mesh/build.sh "$(CURDIR)/$(MESH)"
	@touch $@

# A link to an Envoy of the machine is checked again, because it may have changed.
$(MESH)/envoy: test/mesh/envoy.sh $(if $(ENVOY)$(shell test -L $(MESH)/envoy && echo link),FORCE)
	@test/mesh/envoy.sh "$(CURDIR)/$(MESH)"
	@touch -h $@

.PHONY: FORCE
FORCE:

.PHONY: generate
generate: ## Regenerate all generated files
	go generate ./...

.PHONY: verify-generate
verify-generate: ## Check that generating changes nothing
	@before=$$(mktemp); after=$$(mktemp); trap 'rm -f "$$before" "$$after"' EXIT; \
	$(FILES) | sort | xargs -d '\n' cksum >"$$before"; \
	go generate ./...; \
	$(FILES) | sort | xargs -d '\n' cksum >"$$after"; \
	diff "$$before" "$$after" || { echo "these files were stale and are regenerated: commit them" >&2; exit 1; }

##@ Check

.PHONY: lint
lint: $(GOLANGCI_LINT) ## gofmt, the linters of .golangci.yml, and actionlint on the workflows
	@unformatted=$$($(FILES) | grep '\.go$$' | xargs -d '\n' gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "run gofmt -w on:" $$unformatted >&2; exit 1; fi
	$(GOLANGCI_LINT) run
	cd release && ../$(GOLANGCI_LINT) run
	go run $(ACTIONLINT) .github/workflows/*.yml

$(GOLANGCI_LINT): test/lint/go.mod test/lint/go.sum
	@echo "golangci-lint $(GOLANGCI_VERSION) (once; some minutes)"
	@mkdir -p $(@D)
	@cd test/lint && ../go-build.sh -trimpath -ldflags '-s -w -X main.version=$(GOLANGCI_VERSION)' -o "$(CURDIR)/$@" \
		github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: test
test: lint verify-generate unit verify-release integration e2e ## All checks: this section except mutants, matrix and fuzz

.PHONY: unit
unit: race-tools unit-tools ## Unit tests with fuzz seeds and goldens (-race)
	go test -race $(UNIT_PACKAGES)

.PHONY: verify-release
verify-release: ## Make image and command line twice, compare the bytes, validate them, run the binaries
	go test -C release -count=1 ./...

.PHONY: integration
integration: control-plane network-tools race-tools ## Tests with a real control plane; RUN=regexp selects tests, HARNESS_LOGS=dir keeps logs
	$(if $(HARNESS_LOGS),HARNESS_LOGS=$(abspath $(HARNESS_LOGS))) go test -race -count=1 -timeout=30m -exec "$(OWN_NETWORK)" $(if $(RUN),-run '$(RUN)') $(PROCESS_PACKAGES)

.PHONY: e2e
e2e: ## Tests with istiod, Envoy and Redis (as root); E2E=required skips none, RUN=regexp selects tests, HARNESS_LOGS=dir keeps logs
	$(try-wire)
	E2E=$(or $(E2E),on) $(if $(HARNESS_LOGS),HARNESS_LOGS=$(abspath $(HARNESS_LOGS))) go test -v -count=1 -timeout=30m $(if $(RUN),-run '$(RUN)') ./test/e2e

.PHONY: mutants
mutants: ## Remove each safeguard and show that its test fails; TIER=unit|integration|e2e and ONLY=regexp select mutants, CHANGED=1 those that differ from main
	$(if $(filter unit,$(TIER)),,@$(MAKE) --silent --no-print-directory control-plane network-tools $(if $(filter integration,$(TIER)),,mesh wire-tools))
	go run ./test/mutants -tier $(or $(TIER),all) $(if $(ONLY),-only '$(ONLY)') $(if $(CHANGED),-changed)

# The versions of `make matrix`: of Kubernetes, and of "module istio.io/istio/Envoy". The first Istio is 1.30, with the
# minor version of Envoy that it comes with. Kubernetes and Istio are compiled once, as above.
KUBERNETES ?= v1.30.14 v1.33.13 $(KUBERNETES_VERSION)
MESHES ?= v0.0.0-20260423205519-b01690e6db7d/1.38.3 $(foreach envoy,1.36.4 1.38.3 1.40.0,$(ISTIO_VERSION)/$(envoy))

.PHONY: matrix
matrix: ## integration with each of KUBERNETES, e2e with each Istio/Envoy of MESHES (as root); RUN=regexp; about 100 minutes
	@KUBERNETES="$(KUBERNETES)" MESHES="$(MESHES)" RUN='$(RUN)' test/matrix.sh

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZ_TIME (10s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do \
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$file" | while read -r name; do \
			go test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZ_TIME) "./$$(dirname "$$file")" || exit 1; \
		done || exit 1; \
	done

##@ See

.PHONY: demo
demo: control-plane network-tools ## Show pods and objects on a real API server, then bytes on the wire (as root); WIRE=0 skips the wire, KEEP=1 keeps it running
	@mkdir -p bin
	@echo "webhook and demo (the first time about 3 minutes)"
	@test/go-build.sh -o bin/webhook ./cmd/webhook
	@test/go-build.sh -o bin/demo ./test/demo
	@[ "$(WIRE)" = 0 ] || [ "$$(id -u)" != 0 ] || [ -e $(MESH)/mesh ] || echo "Istio and Envoy for the wire (the first time about 7 minutes)"
	$(if $(filter-out 0,$(or $(WIRE),1)),$(try-wire))
	@$(OWN_NETWORK) bin/demo -webhook bin/webhook $(if $(UPDATE),-transcript test/demo/wire/testdata/transcript.txt)

.PHONY: soak
soak: control-plane network-tools ## A quarter of an hour of faults under load, with the table of docs/reliability.md; RATE=pods per second, FAULTS=regexp selects faults
	@mkdir -p bin
	@test/go-build.sh -o bin/webhook ./cmd/webhook
	@test/go-build.sh -ldflags '-X main.version=0.0.0-other' -o bin/webhook-other ./cmd/webhook
	@test/go-build.sh -o bin/soak ./test/soak
	@$(OWN_NETWORK) bin/soak -webhook bin/webhook -other bin/webhook-other $(if $(RATE),-rate '$(RATE)') $(if $(FAULTS),-faults '$(FAULTS)')

.PHONY: bench
bench: control-plane network-tools ## Benchmarks in COUNT (6) rounds, by benchstat: compared with other handlers, and on the wire (as root)
	@mkdir -p bin
	@rm -f bin/bench.txt bin/wire.txt
	$(try-wire)
	@for round in $$(seq $(or $(COUNT),6)); do \
		go test -run='^$$' -bench=. -benchmem -count=1 -timeout=20m -exec "$(OWN_NETWORK)" ./test/bench | tee -a bin/bench.txt; \
	done
	E2E=on go test -v -run='^$$' -bench=Wire -benchtime=5x -count=$(or $(COUNT),6) -timeout=30m ./test/e2e | tee bin/wire.txt
	E2E=on go test -v -run='^$$' -bench=NodesAndPorts -benchtime=1x -timeout=30m ./test/e2e
	E2E=on go test -v -run='^$$' -bench=Keys -benchtime=11x -timeout=30m ./test/e2e
	go tool benchstat -filter '.name:Admission' -col /handler bin/bench.txt
	go tool benchstat -filter '.name:Inject' bin/bench.txt
	go tool benchstat -filter '.name:APIServer' -col /webhook bin/bench.txt
	go tool benchstat -filter '.unit:/requests/' -row /command,/pipeline bin/wire.txt
	go tool benchstat -filter '.unit:/^%/' -row /command,/pipeline bin/wire.txt

.PHONY: bench-peers
bench-peers: control-plane $(MESH)/mesh $(PEERS)/kyverno network-tools ## The same reviews and first uses with Kyverno and with Istio's injector (as root); PEERS_FLAGS; 7 minutes, and once 5 to build Kyverno
	@mkdir -p bin
	@test/go-build.sh -o bin/webhook ./cmd/webhook
	@test/go-build.sh -o bin/peers ./test/peers
	@bin/peers -webhook bin/webhook -kyverno $(PEERS) $(PEERS_FLAGS)

$(PEERS)/kyverno: test/peers/kyverno/go.mod test/peers/kyverno/go.sum test/peers/kyverno/build.sh
	@test/peers/kyverno/build.sh "$(CURDIR)/$(PEERS)"
	@touch $@

.PHONY: scale
scale: control-plane network-tools ## Cost of a large cluster for a replica: NAMESPACES (10000) with PODS (50000), compared with 100 and 500; some minutes, 8 GB
	@mkdir -p bin
	@test/go-build.sh -o bin/webhook ./cmd/webhook
	@test/go-build.sh -o bin/scale ./test/scale
	@$(OWN_NETWORK) bin/scale -webhook bin/webhook $(if $(NAMESPACES),-namespaces $(NAMESPACES)) $(if $(PODS),-pods $(PODS)) $(SCALE_FLAGS)

##@ Other

.PHONY: network-tools
network-tools: # veth pairs
	@test/install-missing.sh ip:iproute2

.PHONY: wire-tools
wire-tools: # the network of a pod, and its servers
	@test/install-missing.sh ip:iproute2 iptables:iptables tcpdump:tcpdump redis-server:redis-server nginx:nginx-light curl:curl

.PHONY: race-tools
race-tools: # the race detector needs a C compiler
	@test/install-missing.sh "gcc:gcc libc6-dev"

.PHONY: unit-tools
unit-tools: # the commands of docs/getting-started.md, which a test runs
	@test/install-missing.sh openssl:openssl

.PHONY: clean
clean: ## Remove the results of builds and tests
	rm -rf bin .cache

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile
