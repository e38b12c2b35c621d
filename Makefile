# TrackLens: `make demo` and `make test` are all that a fresh machine needs; `make help` lists the rest.

TOOLS := $(CURDIR)/.tools
TRACKLENS := target/release/tracklens

export PATH := $(TOOLS)/bin:$(PATH)
export ORT_DYLIB_PATH ?= $(TOOLS)/lib/libonnxruntime.so
# Data and weights that cannot be part of the project, where they lie beside it.
ifneq ($(wildcard ../shared/data),)
export TRACKLENS_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/models),)
export TRACKLENS_MODELS ?= $(abspath ../shared/models)
endif

# One profile, and one selection of packages and targets, everywhere: what tests alone depend on switches on features
# further down, so a build without the tests would compile the dependencies a second time.
CARGO_FLAGS := --release --workspace --locked

.PHONY: help setup build demo test lint doctor

help: ## What there is to type
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing (FFmpeg, the dora CLI, ONNX Runtime, RabbitMQ and Chromium for tests, the demo clip)
	@scripts/setup.sh

build: setup ## Build everything, tests included
	cargo build $(CARGO_FLAGS) --all-targets

demo: build ## Follow what moves in the demo clip: video, tracks and a contact sheet in out/demo
	$(TRACKLENS) run graphs/demo.yml --out out/demo

# The graphs of the end-to-end tests run the nodes' binaries, hence the build before.
test: build ## Run all tests
	cargo test $(CARGO_FLAGS)

lint: setup ## Formatting and clippy
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

doctor: build ## What this machine has and lacks
	$(TRACKLENS) doctor
