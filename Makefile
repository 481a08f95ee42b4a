# The few commands of this project. CI runs the same ones: see .ci/run.

CLUSTER = tests/cluster/cluster.py
COMPONENTS = tests/cluster/components
TOOLS = target/tools
RUFF = $(TOOLS)/bin/ruff
MYPY = $(TOOLS)/bin/mypy
PYTHON_TOOLS = ruff==0.17.6 mypy==2.4.1 setuptools==80.9.0 gevent==26.7.0 eventlet==0.40.4
GO_FILES = $(shell find . -name target -prune -o -name '*.go' -print)

# These test programs need no cluster and run anywhere, without root.
LOCAL = forked header layers
# These too; `make test` runs them with AddressSanitizer, also in libssh2's C. Its runtime comes with stable Rust, the flag does not.
ASAN = hostile hostile_files
# These run in the cluster's network only. All others of tests/ run in both positions.
ONCE = cable conformance cpp images install kubectl languages python readme settings storage untrusted
BOTH = $(filter-out $(LOCAL) $(ONCE) $(ASAN),$(basename $(notdir $(wildcard tests/*.rs))))
CARGO_TEST = cargo test --offline --no-fail-fast
# The command `sandbox`, which the library's users don't build.
COMMAND = --features cli
# Each is built alone, to see that it needs no other.
FEATURES = $(shell sed -n '/^\[features\]/,/^$$/s/^\([a-z][a-z-]*\) = .*/\1/p' Cargo.toml | grep -vx -e default -e kubernetes-1-34)
MSRV = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
# Most tests wait for the sandbox most of the time.
export RUST_TEST_THREADS = 4
# One program each: the inside ones where Pod addresses answer, the outside ones where only the API server does.
TEST_ASAN = $(ASAN:%=run/asan/%)
TEST_INSIDE = $(ONCE:%=run/inside/%) $(BOTH:%=run/inside/%)
TEST_OUTSIDE = $(BOTH:%=run/outside/%)
# So many programs at a time. The output of each comes when it is done.
SIDE_BY_SIDE = 3
# What a test calls make or cargo for is no part of that.
ALONE = env -u MAKEFLAGS -u MFLAGS
RUN_TOGETHER = $(MAKE) --no-print-directory --keep-going -j$(SIDE_BY_SIDE) -Otarget IS_TOGETHER=1

# Where `make install` puts the library, and which build of it. The versions are said in Cargo.toml and build.rs only.
PREFIX = /usr/local
INCLUDEDIR = $(PREFIX)/include
LIBDIR = $(PREFIX)/lib
PROFILE = release
HEADERS = include/sandbox.h $(wildcard bindings/cpp/*.hpp)
PARTS = $(wildcard bindings/cpp/sandbox/*.hpp)
BUILT = target/$(PROFILE)
# Touched after each build: cargo does not always give the library a new time.
BUILD_STAMP = $(BUILT)/libsandbox.stamp
SOURCES = Cargo.toml Cargo.lock build.rs $(shell find src ciphers protocol -type f)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
SOVERSION = $(shell sed -n 's/.*soname,libsandbox\.so\.\([0-9]*\).*/\1/p' build.rs)
# What a program takes beside libsandbox.a.
STATIC_LIBS = -lssl -lcrypto -lz -lpthread -ldl -lm
FILLED = sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' \
	-e 's|@VERSION@|$(VERSION)|g' -e 's|@MINOR@|$(basename $(VERSION))|g' -e 's|@SOVERSION@|$(SOVERSION)|g' \
	-e 's|@STATIC_LIBS@|$(STATIC_LIBS)|g' \
	-e "s|@INCLUDEDIR_FROM_HERE@|$$(realpath -m --relative-to="$(LIBDIR)/cmake/sandbox" "$(INCLUDEDIR)")|g"
PKGCONFIG_FILES = sandbox.pc sandbox-static.pc
CMAKE_FILES = sandbox-config.cmake sandbox-config-version.cmake
TO_INCLUDEDIR = "$(DESTDIR)$(INCLUDEDIR)"
TO_LIBDIR = "$(DESTDIR)$(LIBDIR)"
# The loader finds the library only by its cache, which is root's. What is staged is another machine's.
LDCONFIG = test -n "$(DESTDIR)" || test "$$(id -u)" != 0 || PATH="$$PATH:/sbin" ldconfig

GUEST_FLAGS = -Ctarget-feature=+crt-static --cfg=getrandom_backend="linux_getrandom"
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
ASAN_BUILD = --target $(HOST) --target-dir target/asan
ASAN_ENV = RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CFLAGS_$(HOST)='-fsanitize=address -fno-omit-frame-pointer -g' \
	LSAN_OPTIONS=suppressions=$(CURDIR)/tests/sshd/leaks.supp:print_suppressions=0

export RUFF_CACHE_DIR = $(CURDIR)/target/ruff
export MYPY_CACHE_DIR = $(CURDIR)/target/mypy
ifndef IS_TOGETHER
.NOTPARALLEL:
endif
.PHONY: help library guest install uninstall wheel quickstart test test-local test-unit test-guest fetch test-doc test-relay test-inside test-asan \
	test-outside test-cluster build-tests build-asan bench fmt lint \
	lint-rust lint-features lint-msrv lint-go lint-python docs-c header cluster-up test-up cluster-down clean tools \
	own-cluster own-image

help: ## lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

quickstart: own-image tools cluster-up ## uses a sandbox on a real Kubernetes, and shows the time of each phase
	cargo build --example life
	$(CLUSTER) run -- cargo run --quiet --offline --example life

# A debug build is the tests': one without them has other features of its dependencies and the same name, so each would have the
# other one built again.
library: ## builds libsandbox.so and libsandbox.a, in target/release
	cargo build --lib $(if $(filter release,$(PROFILE)),--release,$(COMMAND) --bins --tests --examples)
	@touch $(BUILD_STAMP)

# Static: the images that it comes into may have no libraries. Its own directory, since other flags would build all of target anew.
guest: ## builds the main process of sandboxes, as one static program: target/guest/*/guest/sandbox-guest
	RUSTFLAGS='$(GUEST_FLAGS)' cargo build --locked --package sandbox-guest --profile guest --target $(HOST) \
		--target-dir target/guest

# Builds only what is missing or old, so that root needs no compiler.
$(BUILD_STAMP): $(SOURCES)
	@command -v cargo >/dev/null || { echo "$(BUILT) has no library of these sources, and there is no cargo: run" \
		"make library first, as who has it"; exit 1; }
	$(MAKE) library

install: $(BUILD_STAMP) ## installs headers and libraries for C and C++ in PREFIX=/usr/local, with pkg-config and CMake files
	install -d $(TO_INCLUDEDIR)/sandbox $(TO_LIBDIR)/pkgconfig $(TO_LIBDIR)/cmake/sandbox
	install -m 644 $(HEADERS) $(TO_INCLUDEDIR)
	install -m 644 $(PARTS) $(TO_INCLUDEDIR)/sandbox
	install -m 755 $(BUILT)/libsandbox.so $(TO_LIBDIR)/libsandbox.so.$(VERSION)
	ln -sf libsandbox.so.$(VERSION) $(TO_LIBDIR)/libsandbox.so.$(SOVERSION)
	ln -sf libsandbox.so.$(SOVERSION) $(TO_LIBDIR)/libsandbox.so
	install -m 644 $(BUILT)/libsandbox.a $(TO_LIBDIR)
	@for file in $(PKGCONFIG_FILES); do \
		$(FILLED) bindings/c/$$file.in | install -m 644 /dev/stdin $(TO_LIBDIR)/pkgconfig/$$file || exit 1; \
	done
	@for file in $(CMAKE_FILES); do \
		$(FILLED) bindings/c/$$file.in | install -m 644 /dev/stdin $(TO_LIBDIR)/cmake/sandbox/$$file || exit 1; \
	done
	@$(LDCONFIG)

# Nothing else: the directories may have files of others too.
uninstall: ## removes what was installed in PREFIX
	rm -f $(addprefix $(TO_INCLUDEDIR)/,$(notdir $(HEADERS)) $(PARTS:bindings/cpp/%=%)) \
		$(addprefix $(TO_LIBDIR)/libsandbox.,so so.$(SOVERSION) so.$(VERSION) a) \
		$(addprefix $(TO_LIBDIR)/pkgconfig/,$(PKGCONFIG_FILES)) \
		$(addprefix $(TO_LIBDIR)/cmake/sandbox/,$(CMAKE_FILES))
	@for directory in $(TO_INCLUDEDIR)/sandbox $(TO_LIBDIR)/cmake/sandbox; do \
		test ! -d "$$directory" || rmdir --ignore-fail-on-non-empty "$$directory"; \
	done
	@$(LDCONFIG)

wheel: library $(RUFF) ## builds the Python package with the library in it, target/wheel/*.whl
	rm -rf target/wheel target/python
	mkdir -p target/python
	strip --strip-debug -o target/python/libsandbox.so $(BUILT)/libsandbox.so
	SANDBOX_LIBRARY=$(CURDIR)/target/python/libsandbox.so $(TOOLS)/bin/pip wheel --quiet --no-index --no-deps \
		--no-build-isolation --wheel-dir target/wheel bindings/python

test: test-local test-guest test-doc test-relay test-cluster ## runs all tests: on this machine, in the cluster's network, and outside of it

test-local: test-unit test-asan ## runs what needs no cluster and no root; test-unit alone takes seconds

test-unit: fetch
	$(CARGO_TEST) $(COMMAND) --lib --bins $(LOCAL:%=--test %)

test-guest: fetch tools ## runs the guest's tests, as process 1 of a PID namespace, and those of the protocol
	$(CARGO_TEST) -p sandbox-guest -p sandbox-protocol

fetch:
	cargo fetch --locked

test-doc: build-tests
	$(CARGO_TEST) $(COMMAND) --doc

test-relay: tools
	cd $(COMPONENTS) && go test -v ./relay

test-cluster: own-cluster build-tests test-up
	@$(RUN_TOGETHER) $(TEST_INSIDE) $(TEST_OUTSIDE)

test-inside: own-cluster build-tests test-up ## runs tests/*.rs where Pod addresses answer
	@$(RUN_TOGETHER) $(TEST_INSIDE)

test-asan: build-asan ## runs tests/hostile*.rs under AddressSanitizer
	@$(RUN_TOGETHER) $(TEST_ASAN)

test-outside: own-cluster build-tests test-up ## runs tests/*.rs where only the API server answers
	@$(RUN_TOGETHER) $(TEST_OUTSIDE)

run/asan/%:
	$(ALONE) env $(ASAN_ENV) $(CARGO_TEST) $(ASAN_BUILD) --test $*

run/inside/%:
	$(ALONE) $(CLUSTER) run -- $(CARGO_TEST) $(COMMAND) --test $*

run/outside/%:
	$(ALONE) $(CLUSTER) run --outside -- $(CARGO_TEST) $(COMMAND) --test $*

# There is no way from the cluster's networks to a package registry, so building comes first.
build-tests: tools
	$(MAKE) wheel PROFILE=debug

# Of libssh2, which another compiler translates, it is checked that it is looked at as well.
build-asan:
	env $(ASAN_ENV) cargo test --no-run $(ASAN_BUILD) $(ASAN:%=--test %)
	@for library in target/asan/$(HOST)/debug/build/libssh2-sys-*/out/build/libssh2.a; do \
		nm $$library 2>/dev/null | grep -q __asan_report_store || { echo "$$library is without AddressSanitizer"; exit 1; }; \
	done

bench: own-cluster tools cluster-up ## measures this library beside other clients
	python3 benches/compare.py prepare
	$(CLUSTER) run -- python3 benches/compare.py run

fmt: $(RUFF) ## formats the sources of all languages
	cargo fmt
	gofmt -w $(GO_FILES)
	$(RUFF) format

lint: lint-rust lint-features lint-msrv lint-go lint-python docs-c ## checks formatting and lints of all languages

lint-rust: tools
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --lib

# Without the default ones, and with the oldest Kubernetes that k8s-openapi knows, as a program may choose it.
lint-features: fetch ## checks the library and the command with each feature alone
	for feature in '' $(FEATURES); do \
		cargo clippy --locked --lib --bins --no-default-features --features "k8s-openapi/earliest $$feature" -- -D warnings || exit 1; \
	done

# The oldest Rust that Cargo.toml allows; nothing is to be done where it is the one in use.
lint-msrv: fetch
	test "$$(rustc --version | cut -d' ' -f2)" = $(MSRV).0 || \
		rustup run $(MSRV).0 cargo check --locked --workspace --all-targets --all-features --target-dir target/msrv

# Vetting all of Kubernetes would take many minutes; the rest of it is one list for the compiler. The binding needs only the header for
# it, no library that pkg-config finds.
lint-go: export PKG_CONFIG = true
lint-go: export CGO_CFLAGS = -I$(CURDIR)/include
lint-go: tools
	@unformatted=$$(gofmt -l $(GO_FILES)) && test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	cd $(COMPONENTS) && go vet ./relay
	cd bindings/go && go vet ./...
	cd tests/conformance/go && go vet ./...
	cd examples && go vet quickstart.go
	cd benches/border && go vet border.go
	cd guest/tests/ssh/go && go vet ./...

lint-python: $(RUFF)
	$(RUFF) check
	$(RUFF) format --check
	$(MYPY) --strict $(wildcard tests/cluster bindings/python)
	python3 bindings/python/make_abi.py --check
	$(MYPY) --strict --ignore-missing-imports benches

docs-c: tools ## documents the C ABI and the C++ binding in target/docs-c, which takes a comment at every item
	mkdir -p target/docs-c
	doxygen bindings/Doxyfile

header: tools ## writes include/sandbox.h anew
	BLESS=1 cargo test --test header

cluster-up: ## starts the test Kubernetes, if it is not up
	$(CLUSTER) up

# With what only tests need, which the quickstart does not wait for.
test-up:
	$(CLUSTER) up --gvisor --images

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
