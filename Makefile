# azp-bootstrap: every target can be the first command run on a fresh Debian machine with Go.
SHELL   := /bin/bash
BUILD   ?= build
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TARGET  ?= environment
SERVER  ?= services
CROWDS  := 1,10,100,1000,5000,10000
TOOLS   := $(BUILD)/azp-bootstrap $(BUILD)/azp-sim

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build both programs, static, into build/
	@echo "Building azp-bootstrap and azp-sim into $(BUILD)/ ($(VERSION))"
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BUILD)/ ./cmd/...

.PHONY: demo
demo: build ## Boot a VM against a simulated Azure, and take it out: TARGET=environment|deploymentGroup|pool SERVER=services|server|tfs; KEEP=1 leaves it running
	@$(BUILD)/azp-sim demo --target $(TARGET) --server $(SERVER) $(if $(filter 1,$(KEEP)),--keep)

.PHONY: test
test: build ## All tests of the default tier (no root, no network)
	@echo "Testing: unit tests, fuzz seeds and black-box scenarios against the simulator"
	@# The longest begin first. Scenarios wait more than they compute: six at a time.
	@go run gotest.tools/gotestsum@v1.13.0 --format standard-quiet -- -count=1 -parallel 6 ./cmd/azp-bootstrap ./bootstrap ./... 2>&1 | scripts/count-tests.sh

.PHONY: check
check: ## The inner loop: format, vet, and the unit tests that take no time
	@test -z "$$(gofmt -l bootstrap cmd systemd)" || { gofmt -l bootstrap cmd systemd; exit 1; }
	@go vet ./... && go test -short $$(go list ./... | grep -vE '/bootstrap$$|/azp-bootstrap$$|/sim')

.PHONY: race
race: ## Unit tests, and scenarios with the programs built so, under the race detector: SCENARIOS=REGEXP (needs a C compiler)
	@go test -race -short -count=1 ./bootstrap/...
	@go test -race -count=1 -timeout 30m ./cmd/azp-bootstrap -run '$(or $(SCENARIOS),TestPositive/(services|moved|health)$$)'

.PHONY: systemd-test
systemd-test: build ## Boot Debian under systemd-nspawn and join it, at production names (root; installs what it needs with apt)
	@scripts/systemd-test.sh $(BUILD)

.PHONY: arm64-test
arm64-test: build ## The demo as linux-arm64: its .deb in a Debian root for arm64, run by QEMU (root; fetches both with apt)
	@scripts/arm64-test.sh $(BUILD)

.PHONY: windows-test
windows-test: ## Run the Windows half under Wine: SCENARIOS=REGEXP (root; makes a Debian 13 root with Wine by apt)
	@mkdir -p $(BUILD) && scripts/windows-test.sh $(BUILD) $(if $(SCENARIOS),'$(SCENARIOS)')

.PHONY: vm-test
vm-test: build ## Boot real virtual machines: PARTS="quick first clones cuts late memory wall idle" or full, by default quick; RELEASE=trixie; ARCH=arm64 (root; installs QEMU with apt)
	@RELEASE=$(RELEASE) ARCH=$(ARCH) scripts/vm-test.sh $(BUILD) $(or $(PARTS),quick)

.PHONY: image
image: build ## Build an image with Packer and QEMU into build/image: PACKAGE=FILE LOCK=FILE for a real agent (root; installs both with apt)
	@scripts/image.sh $(BUILD)

.PHONY: packer-validate
packer-validate: ## Validate the folders of packer/, and what their variables refuse
	@mkdir -p $(BUILD) && scripts/packer-validate.sh $(BUILD)

.PHONY: packer
packer: ## Build Packer 1.9.4 with its plugins from the Go module proxy into build/cache, for the two above (some four minutes, once)
	@scripts/packer.sh build $(BUILD)

.PHONY: pipelines-test
pipelines-test: ## Check the pipelines of docs/deploy and .github, and roll a scale set of a stand-in
	@scripts/pipelines-test.sh

.PHONY: alerts-test
alerts-test: ## Hold the alert rules and the dashboard of docs/deploy to promtool (unpacks it with apt)
	@mkdir -p $(BUILD) && scripts/alerts-test.sh $(BUILD)

.PHONY: powershell-test
powershell-test: ## Parse the PowerShell of scripts and documentation (root; a parser by npm)
	@mkdir -p $(BUILD) && scripts/powershell-test.sh $(BUILD)

.PHONY: packages
packages: ## Build .deb, .rpm and a .zip for Windows (amd64, arm64) into dist/, with checksums and bills of materials
	@scripts/package.sh $(VERSION) dist amd64 arm64

.PHONY: release
release: ## The local half of a release in dist/: packages, checksums, bill of materials, notes: VERSION=1.2.3
	@scripts/release.sh $(VERSION) dist

.PHONY: package-test
package-test: ## Build the packages twice, install, upgrade and purge them in a Debian root (root; installs what it needs with apt)
	@mkdir -p $(BUILD) && scripts/package-test.sh $(BUILD)

.PHONY: peer-test
peer-test: build ## Let azure-cli and azure-devops-node-api use the simulator (root; installs them with apt and npm)
	@scripts/peer-test.sh $(BUILD)

.PHONY: fuzz
fuzz: ## Fuzz every parser of foreign bytes: FUZZTIME=1m each
	@scripts/fuzz.sh $(or $(FUZZTIME),1m)

.PHONY: mutants
mutants: ## Put wrong lines into the product, of which each must fail a test: ONLY=REGEXP of IDs; PKG=bootstrap/journal for random ones (root; minutes)
ifdef PKG
	@go run github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0 unleash --timeout-coefficient 5 ./$(PKG) | grep -vE 'KILLED|^$$'
else
	@go run ./scripts/mutants '$(ONLY)'
endif

.PHONY: fault-matrix
fault-matrix: ## Run every cell of the fault matrix and write docs/evidence/fault-matrix.md
	@go test -count=1 -v ./bootstrap -timeout 60m -run 'TestNetworkFaults|TestLocalFaults|TestLifeFaults|TestFaultMatrixPage' -life 1 -update | grep -E '^(---|ok|FAIL|PASS)|    --- FAIL'

.PHONY: endurance
endurance: ## Boots ended at 1,000 random instants, 500 boots in sequence, 60 at once, with random faults: SEED=1
	@go test -count=1 -v -timeout 90m ./bootstrap -run 'TestEnded|TestSoak|TestCrowd|TestEveryInterleaving' -seed $(or $(SEED),1) -kills 1000 -soak 500 -crowd 60 -interleavings 3000 | grep -vE 'power off|(RUN|PAUSE|CONT|PASS:) '

.PHONY: storm
storm: ## Let 1 to 10,000 VMs boot within the same second, in virtual time, and write docs/evidence/storm.md; STORM=1,100,10000 without peers and page
	@go test -count=1 -v -timeout 120m ./bootstrap -run TestStorm -storm $(or $(STORM),$(CROWDS)) $(if $(STORM),,-storm-docs ../docs/evidence) | grep -v '^=== '

.PHONY: bench
bench: build ## Benchmark boots against scripts, azure-cli and the floor, and write docs/evidence/performance.md; RUNS=5 without page (root; installs the peers with apt)
	@scripts/bench.sh $(BUILD) $(if $(RUNS),-bench-runs $(RUNS),-bench-docs /docs/evidence) | grep --line-buffered -v '^=== '

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, shellcheck; Windows and macOS builds
	@scripts/lint.sh

.PHONY: ci
ci: ## The gate: everything that must be green
	@bash .ci/run

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BUILD)
