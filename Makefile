# Two commands matter to a newcomer: `make run` and `make test`.
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: run build release test lint bench clean

# The whole MTA on loopback, with the built-in development configuration, in a private directory.
run: build
	@dir=$$(mktemp -d "$${TMPDIR:-/tmp}/vsmtp.XXXXXX") && chmod 755 "$$dir" && \
	exec ./target/release/vsmtp --root "$$dir" --demo run

build: release

release:
	$(CARGO) build --release --locked --workspace --bins

# All tests, end-to-end ones against the built binaries. As root they include users, namespaces and sandboxes; without root
# those are skipped by name.
test:
	tests/prepare
	$(CARGO) fetch --locked
	$(CARGO) build --locked --workspace --bins
	VSMTP_BIN="$(CURDIR)/target/debug" $(CARGO) test --locked --workspace -- --test-threads=2

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# Needs root and Debian's postfix package; see docs/performance.md.
bench: release
	tests/load/compare.py tests/load/postfix.sh tests/load/vsmtp.sh

clean:
	$(CARGO) clean
