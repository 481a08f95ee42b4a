# The few commands of this project. CI runs the same ones: see .ci/run.

CLUSTER = tests/cluster/cluster.py
COMPONENTS = tests/cluster/components
TOOLS = target/tools
RUFF = $(TOOLS)/bin/ruff
MYPY = $(TOOLS)/bin/mypy
PYTHON_TOOLS = ruff==0.17.6 mypy==2.4.1
GO_FILES = $(shell find . -name target -prune -o -name '*.go' -print)

# These test programs run in the cluster's network only. All others of tests/ run in both positions.
ONCE = cable header languages readme settings
BOTH = $(filter-out $(ONCE),$(basename $(notdir $(wildcard tests/*.rs))))
CARGO_TEST = cargo test --offline --no-fail-fast

export RUFF_CACHE_DIR = $(CURDIR)/target/ruff
export MYPY_CACHE_DIR = $(CURDIR)/target/mypy
.NOTPARALLEL:
.PHONY: help quickstart test test-unit test-doc test-relay test-inside test-outside build-tests bench fmt lint \
	lint-rust lint-go lint-python header cluster-up cluster-down clean tools \
	own-cluster own-image

help: ## lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

quickstart: own-image tools cluster-up ## uses a sandbox on a real Kubernetes, and shows the time of each phase
	cargo build --example life
	$(CLUSTER) run -- cargo run --quiet --offline --example life

test: test-unit test-doc test-relay test-inside test-outside ## runs all tests: on this machine, in the cluster's network, and outside of it

test-unit: build-tests
	$(CARGO_TEST) --lib

test-doc: build-tests
	$(CARGO_TEST) --doc

test-relay: tools
	cd $(COMPONENTS) && go test -v ./relay

test-inside: own-cluster build-tests cluster-up ## runs tests/*.rs where Pod addresses answer
	$(CLUSTER) run -- $(CARGO_TEST) --test '*'

test-outside: own-cluster build-tests cluster-up ## runs tests/*.rs where only the API server answers
	$(CLUSTER) run --outside -- $(CARGO_TEST) $(BOTH:%=--test %)

# There is no way from the cluster's networks to a package registry, so building comes first.
build-tests: tools
	cargo build
	cargo test --no-run

bench: own-cluster tools cluster-up ## measures this library beside other clients
	python3 benches/compare.py prepare
	$(CLUSTER) run -- python3 benches/compare.py run

fmt: $(RUFF) ## formats the sources of all languages
	cargo fmt
	gofmt -w $(GO_FILES)
	$(RUFF) format

lint: lint-rust lint-go lint-python ## checks formatting and lints of all languages

lint-rust: tools
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

# Vetting all of Kubernetes would take many minutes; the rest of it is one list for the compiler.
lint-go: tools
	@unformatted=$$(gofmt -l $(GO_FILES)) && test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	cd $(COMPONENTS) && go vet ./relay

lint-python: $(RUFF)
	$(RUFF) check
	$(RUFF) format --check
	$(MYPY) --strict $(wildcard tests/cluster bindings/python)

header: tools ## writes include/sandbox.h anew
	BLESS=1 cargo test --test header

cluster-up: ## starts the test Kubernetes, if it is not up
	$(CLUSTER) up

cluster-down: ## ends it
	$(CLUSTER) down

clean: cluster-down ## removes everything that was built, the Kubernetes too
	cargo clean

tools:
	@command -v python3 >/dev/null || { echo "python3 is missing: install Python 3.9 or newer"; exit 1; }
	@$(CLUSTER) install

own-cluster:
	@test "$$SANDBOX_CLUSTER" != current || { echo "the tests need a cluster of their own: unset SANDBOX_CLUSTER"; exit 1; }

own-image:
	@test "$$SANDBOX_CLUSTER" != current -o -n "$$SANDBOX_IMAGE" || \
		{ echo "SANDBOX_CLUSTER=current: set SANDBOX_IMAGE to an image that your cluster can pull, see image/README.md"; exit 1; }

# Made anew when the versions above change.
$(RUFF): Makefile | tools
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet $(PYTHON_TOOLS)
	@touch $@
