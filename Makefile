# The verbs; CMake and Ninja do the work. `make help` lists them.
SHELL := /bin/sh
BUILD := build
MODEL ?= smollm2:135m
T     ?= tensor_gguf
FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local
JOBS  ?= $(shell getconf _NPROCESSORS_ONLN)
VENV  := $(BUILD)/venv
MLX_VERSION := 0.32.4
MLX_WHEEL ?= mlx-cpu

.PHONY: all build mlx serve install deb test unit e2e library clients check cross-check arm64-check avx512-check format asan tsan fuzz fuzz-all bench growth oracle docs soak chaos schema-run abuse models deps test-deps clean help

all: build ## build the program at build/tandem

build: deps
	@test -f $(BUILD)/build.ninja || cmake --preset release
	@ninja -C $(BUILD) -j $(JOBS) tandem

serve: build ## bring the default model and serve it on 127.0.0.1:8000
	@tools/fetch_model.py $(MODEL)
	@printf '\nWhen it is ready, try this in another terminal:\n\n  curl -N http://127.0.0.1:8000/v1/chat/completions \\\n    -d '"'"'{"messages":[{"role":"user","content":"Explain in two sentences what a web server does."}],"temperature":0.2,"stream":true}'"'"'\n\n'
	@exec $(BUILD)/tandem serve $(MODEL) $(ARGS)

install: build ## program, libraries, header, documents, below PREFIX (/usr/local), and DESTDIR before it
	@ninja -C $(BUILD) -j $(JOBS) tandem tandem_shared tandem_static $$(test -f $(BUILD)/tandem_mlx.so && echo tandem_mlx)
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD) --prefix $(abspath $(PREFIX)) >/dev/null && echo "installed below $(DESTDIR)$(abspath $(PREFIX))"

deb: deps ## Debian packages in build/deb, without what only tests use (Debian and its relatives)
	@tools/make_deb.py --jobs $(JOBS)

test: deps test-deps models ## build everything and run all tests
	@tools/run_tests.py --build $(BUILD) --jobs $(JOBS) --venv $(VENV)

unit: test-deps ## only the C unit tests
	@cmake --preset release >/dev/null
	@ninja -C $(BUILD) -j $(JOBS) && ctest --test-dir $(BUILD) --output-on-failure -j 2

e2e: build test-deps models ## only the end-to-end tests, with the official clients
	@ninja -C $(BUILD) -j $(JOBS)
	@TANDEM=$(CURDIR)/$(BUILD)/tandem $(VENV)/bin/python -m pytest -q tests/e2e $(ARGS)

clients: build test-deps models ## real clients against the program: Claude Code, OpenCode, Node's, LangChain; ARGS=--long for all of it
	@ninja -C $(BUILD) -j $(JOBS)
	@TANDEM=$(CURDIR)/$(BUILD)/tandem $(VENV)/bin/python -m pytest -q -rs tests/clients $(ARGS)

library: build test-deps ## what `make install` installs, as its users have it: the C examples, the Python package
	@ninja -C $(BUILD) -j $(JOBS) tandem_shared tandem_static make_random_model
	@TANDEM_BUILD=$(CURDIR)/$(BUILD) $(VENV)/bin/python -m pytest -q tests/lib $(ARGS)

check: build test-deps ## include rules, banned functions, sizes, complexity, globals, formatting, stale docs
	@ninja -C $(BUILD) -j $(JOBS)
	@$(VENV)/bin/python tools/check/check.py --build $(BUILD)

cross-check: build ## compile everything for the other platforms (Linux and macOS on arm64)
	@tools/install_deps.sh test
	@test -x $(BUILD)/cross/venv/bin/python || python3 -m venv $(BUILD)/cross/venv
	@$(BUILD)/cross/venv/bin/pip install -q --disable-pip-version-check ziglang==0.13.0.post1
	@tools/cross_check.py --build $(BUILD) --zig $(BUILD)/cross/venv/bin/python

arm64-check: ## compile the tests of the arm64 kernels and run them under qemu (Debian, x86-64)
	@tools/arm64_check.py --jobs $(JOBS) || test $$? -eq 77

avx512-check: test-deps ## run the tests of the AVX-512 kernels on a processor that Bochs emulates (Debian, x86-64)
	@tools/avx512_check.py --build $(BUILD) --jobs $(JOBS) || test $$? -eq 77

mlx: build ## bring MLX and build the mlx backend; MLX_WHEEL=mlx-cuda-13 for NVIDIA
	@tools/install_deps.sh mlx
	@test "$$(uname)" = Darwin || { test -x build/mlx/bin/python || python3 -m venv build/mlx; }
	@test "$$(uname)" = Darwin || build/mlx/bin/pip install -q --disable-pip-version-check mlx==$(MLX_VERSION) $(MLX_WHEEL)==$(MLX_VERSION)
	@cmake --preset release -UMLX_DIR >/dev/null && ninja -C $(BUILD) -j $(JOBS) tandem && $(BUILD)/tandem version

format: ## reformat all C sources
	@git ls-files '*.c' '*.h' | grep -v -E 'text/unicode_table' | xargs clang-format -i

asan: test-deps models ## unit and end-to-end tests under address and undefined-behaviour sanitizers
	@tools/run_tests.py --build $(BUILD)/asan --preset asan --jobs $(JOBS) --venv $(VENV) --suite sanitizer

tsan: test-deps models ## the same under the thread sanitizer
	@tools/run_tests.py --build $(BUILD)/tsan --preset tsan --jobs $(JOBS) --venv $(VENV) --suite sanitizer

fuzz: ## run one fuzz target: make fuzz T=http_parser FUZZ_SECONDS=600
	@tools/run_fuzz.py --build $(BUILD)/fuzz --jobs $(JOBS) --seconds $(FUZZ_SECONDS) $(T)

fuzz-all: ## run every fuzz target for FUZZ_SECONDS
	@tools/run_fuzz.py --build $(BUILD)/fuzz --jobs $(JOBS) --seconds $(FUZZ_SECONDS) --all

bench: build test-deps models ## speed beside llama.cpp from one run; results go to bench/results
	@$(VENV)/bin/python bench/compare.py $(ARGS)

growth: build test-deps models ## how cost grows with streams and context: plots in docs/img
	@$(VENV)/bin/python bench/growth.py $(ARGS)

chaos: build test-deps models ## end the engine under running streams, 100 times; every answer must equal the undisturbed one
	@TANDEM=$(CURDIR)/$(BUILD)/tandem $(VENV)/bin/python tests/chaos/chaos.py $(ARGS)

schema-run: build test-deps models ## 1,000 random schemas at temperature 1.5; what ends by itself must obey its schema
	@TANDEM=$(CURDIR)/$(BUILD)/tandem $(VENV)/bin/python tests/structured/schema_run.py $(ARGS)

abuse: build test-deps models ## 10,000 malformed and hostile requests, plain and over TLS, beside well-formed clients
	@ninja -C $(BUILD) -j $(JOBS) make_random_model make_certificate
	@TANDEM=$(CURDIR)/$(BUILD)/tandem $(VENV)/bin/python tests/http/abuse.py --timing $(ARGS)

soak: build test-deps models ## long run with random disconnects; memory, descriptors and pages must stay flat
	@$(VENV)/bin/python bench/soak.py $(ARGS)

oracle: ## regenerate the reference vectors with torch and transformers, and compare them with the committed ones
	@tools/parity/oracle.sh

docs: build ## regenerate what is generated in docs/ from the tables
	@for kind in options api metrics; do $(BUILD)/tandem docs $$kind > docs/$$(echo $$kind | tr a-z A-Z).md || exit 1; done

models: ## bring the models that tests use
	@tools/fetch_model.py --tests

deps: ## install what building needs (apt or brew)
	@tools/install_deps.sh build

test-deps: deps ## install what tests need
	@tools/install_deps.sh test
	@tools/make_venv.sh $(VENV)

clean: ## remove build products
	@rm -rf $(BUILD)

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'
