# Everything that builds and tests this repository. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The test control plane is compiled from the module proxy once, into a directory named by its version.
# With KUBEBUILDER_ASSETS set (setup-envtest) the binaries there are used, and only what is missing
# among them is built.
KUBERNETES_VERSION := $(shell sed -n 's|^[[:space:]]*k8s.io/kubernetes ||p' test/controlplane/go.mod)
CONTROL_PLANE := bin/controlplane-$(KUBERNETES_VERSION)
COMPONENTS := etcd kube-apiserver kube-controller-manager kubectl
ifneq ($(and $(KUBEBUILDER_ASSETS),$(shell cd "$(KUBEBUILDER_ASSETS)" && ls $(COMPONENTS) >/dev/null 2>&1 && echo all)),)
CONTROL_PLANE_BINARY :=
else
CONTROL_PLANE_BINARY := $(CONTROL_PLANE)/controlplane
endif

# Istio, compiled from the module proxy, and Envoy, in a directory named by Istio's version.
MESH := bin/mesh-$(shell sed -n 's|^[[:space:]]*istio.io/istio ||p' test/mesh/go.mod)

# golangci-lint, compiled from the module proxy once, into a directory named by its version. Its dependencies stay in
# a module of its own, test/lint.
GOLANGCI_VERSION := $(shell sed -n 's|^[[:space:]]*github.com/golangci/golangci-lint/v2 \(v[0-9.]*\).*|\1|p' test/lint/go.mod)
GOLANGCI_LINT := bin/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# Packages whose tests start a control plane: those that use the harness. All others, but for those that
# need the mesh too, are unit tests.
PACKAGE_IMPORTS = go list -f '{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./...
PROCESS_PACKAGES = $$($(PACKAGE_IMPORTS) | grep /test/harness | cut -d' ' -f1 | grep -v -e /test/demo -e /test/bench -e /test/e2e)
UNIT_PACKAGES = $$($(PACKAGE_IMPORTS) | grep -v -e /test/harness -e /test/bench | cut -d' ' -f1)
# Runs a test or the demo where it may make network devices.
OWN_NETWORK := $(CURDIR)/test/harness/own-network.sh
# All files of the repository but what builds make. Without git, which refuses another user's directory.
FILES := find . \( -path ./.git -o -path ./bin -o -path ./.cache \) -prune -o -type f -print
FUZZ_TIME ?= 10s

# Builds and installs what the e2e tests need. A test that needs what cannot be had is skipped and says
# so, hence the failure is ignored here, unless with E2E=required; all of them are but for root.
define try-wire
	+@[ "$$(id -u)" != 0 ] || $(MAKE) --silent --no-print-directory --keep-going control-plane mesh wire-tools || [ "$(E2E)" != required ]
endef

##@ Build

.PHONY: build
build: ## Build the server and the command line into bin/
	@mkdir -p bin
	go build -o bin/ ./cmd/...

# What the image is made of, the same for `docker build`: docs/release.md.
VERSION ?= $(shell sed -n 's/^appVersion: //p' charts/redis-tls/Chart.yaml)
REVISION ?= $(or $(shell git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null),unknown)
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
PLATFORMS ?= linux/amd64,linux/arm64

.PHONY: image
image: ## Assemble the webhook's image, without a container engine, as an OCI archive with SBOMs in bin/image; VERSION, PLATFORMS
	go run -C release . -out "$(CURDIR)/bin/image" -version "$(VERSION)" -revision "$(REVISION)" -epoch "$(SOURCE_DATE_EPOCH)" -platforms "$(PLATFORMS)"

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

# A link, to an Envoy of the machine's, is looked at again: it may have changed.
$(MESH)/envoy: test/mesh/envoy.sh $(if $(ENVOY)$(shell test -L $(MESH)/envoy && echo link),FORCE)
	@test/mesh/envoy.sh "$(CURDIR)/$(MESH)"
	@touch -h $@

.PHONY: FORCE
FORCE:

.PHONY: generate
generate: ## Regenerate what is generated from code
	go generate ./...

.PHONY: verify-generate
verify-generate: ## Check that generating changes nothing
	@before=$$(mktemp); after=$$(mktemp); trap 'rm -f "$$before" "$$after"' EXIT; \
	$(FILES) | sort | xargs -d '\n' cksum >"$$before"; \
	go generate ./...; \
	$(FILES) | sort | xargs -d '\n' cksum >"$$after"; \
	diff "$$before" "$$after" || { echo "these files were stale and are fresh now: commit them" >&2; exit 1; }

##@ Check

.PHONY: lint
lint: $(GOLANGCI_LINT) ## gofmt, and the linters of .golangci.yml; actionlint on the workflows
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
test: lint verify-generate unit verify-image integration e2e ## Everything that must hold: all of this section but mutants and fuzz

.PHONY: unit
unit: race-tools ## Unit tests with fuzz seeds and goldens (-race)
	go test -race $(UNIT_PACKAGES)

.PHONY: verify-image
verify-image: ## Assemble the image twice: the same bytes, valid, its binary runs alone; and hold it against the Dockerfile and the chart
	go test -C release -count=1 ./...

.PHONY: integration
integration: control-plane network-tools race-tools ## Tests against a real control plane; RUN=regexp picks some, HARNESS_LOGS=dir keeps the logs
	$(if $(HARNESS_LOGS),HARNESS_LOGS=$(abspath $(HARNESS_LOGS))) go test -race -count=1 -timeout=30m -exec "$(OWN_NETWORK)" $(if $(RUN),-run '$(RUN)') $(PROCESS_PACKAGES)

.PHONY: e2e
e2e: ## Real istiod, Envoy and Redis, real bytes (as root); E2E=required: nothing is skipped; RUN=regexp picks some, HARNESS_LOGS=dir keeps the logs
	$(try-wire)
	E2E=$(or $(E2E),on) $(if $(HARNESS_LOGS),HARNESS_LOGS=$(abspath $(HARNESS_LOGS))) go test -v -count=1 -timeout=30m $(if $(RUN),-run '$(RUN)') ./test/e2e

.PHONY: mutants
mutants: ## Take each safeguard out and show that its test fails; TIER=unit, integration or e2e and ONLY=regexp pick some, CHANGED=1 those of files that differ from main (on main: from origin/main, else from HEAD~1)
	$(if $(filter unit,$(TIER)),,@$(MAKE) --silent --no-print-directory control-plane network-tools $(if $(filter integration,$(TIER)),,mesh wire-tools))
	go run ./test/mutants -tier $(or $(TIER),all) $(if $(ONLY),-only '$(ONLY)') $(if $(CHANGED),-changed)

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZ_TIME (10s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do \
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$$file" | while read -r name; do \
			go test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZ_TIME) "./$$(dirname "$$file")" || exit 1; \
		done || exit 1; \
	done

##@ See

.PHONY: demo
demo: control-plane network-tools ## Show all of it: pods and objects on a real API server, then bytes on the wire (as root); WIRE=0 leaves the wire out, KEEP=1 leaves it running
	@mkdir -p bin
	@echo "webhook and demo (the first time about 3 minutes)"
	@test/go-build.sh -o bin/webhook ./cmd/webhook
	@test/go-build.sh -o bin/demo ./test/demo
	@[ "$(WIRE)" = 0 ] || [ "$$(id -u)" != 0 ] || [ -e $(MESH)/mesh ] || echo "Istio and Envoy for the wire (the first time about 7 minutes)"
	$(if $(filter-out 0,$(or $(WIRE),1)),$(try-wire))
	@$(OWN_NETWORK) bin/demo -webhook bin/webhook $(if $(UPDATE),-transcript test/demo/wire/testdata/transcript.txt)

.PHONY: soak
soak: control-plane network-tools ## Ten minutes of faults under load, and a table of what they did: docs/reliability.md; RATE=pods a second, FAULTS=regexp picks some
	@mkdir -p bin
	@test/go-build.sh -o bin/webhook ./cmd/webhook
	@test/go-build.sh -o bin/soak ./test/soak
	@$(OWN_NETWORK) bin/soak -webhook bin/webhook $(if $(RATE),-rate '$(RATE)') $(if $(FAULTS),-faults '$(FAULTS)')

.PHONY: bench
bench: control-plane network-tools ## Benchmarks, by benchstat, in COUNT (6) rounds: beside a no-op and an idiomatic handler, and on the wire (as root)
	@mkdir -p bin
	@rm -f bin/bench.txt bin/wire.txt
	$(try-wire)
	@for round in $$(seq $(or $(COUNT),6)); do \
		go test -run='^$$' -bench=. -benchmem -count=1 -timeout=20m -exec "$(OWN_NETWORK)" ./test/bench | tee -a bin/bench.txt; \
	done
	E2E=on go test -v -run='^$$' -bench=Wire -benchtime=5x -count=$(or $(COUNT),6) -timeout=30m ./test/e2e | tee bin/wire.txt
	go tool benchstat -filter '.name:Admission' -col /handler bin/bench.txt
	go tool benchstat -filter '.name:Inject' bin/bench.txt
	go tool benchstat -filter '.name:APIServer' -col /webhook bin/bench.txt
	go tool benchstat -filter '.unit:/requests/' -row /command,/pipeline bin/wire.txt
	go tool benchstat -filter '.unit:/^%/' -row /command,/pipeline bin/wire.txt

.PHONY: scale
scale: control-plane network-tools ## What a large cluster costs a replica: NAMESPACES (10000) with PODS (50000) beside 100 with 500; some minutes, 8 GB
	@mkdir -p bin
	@test/go-build.sh -o bin/webhook ./cmd/webhook
	@test/go-build.sh -o bin/scale ./test/scale
	@$(OWN_NETWORK) bin/scale -webhook bin/webhook $(if $(NAMESPACES),-namespaces $(NAMESPACES)) $(if $(PODS),-pods $(PODS)) $(SCALE_FLAGS)

##@ Other

.PHONY: network-tools
network-tools: # veth pairs
	@test/install-missing.sh ip:iproute2

.PHONY: wire-tools
wire-tools: # what a pod's network and its servers are made of
	@test/install-missing.sh ip:iproute2 iptables:iptables tcpdump:tcpdump redis-server:redis-server nginx:nginx-light curl:curl

.PHONY: race-tools
race-tools: # the race detector is linked by a C compiler
	@test/install-missing.sh "gcc:gcc libc6-dev"

.PHONY: clean
clean: ## Remove what builds and tests made
	rm -rf bin .cache

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile
