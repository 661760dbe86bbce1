# `make demo` on a fresh machine needs Python 3.11 or later and make, nothing else.
# PIP_FLAGS adds options to every pip call, such as another package index.

PYTHON ?= python3
PIP_FLAGS ?=
ARGS ?=
# Tests run in so many processes, each of one thread: more threads than cores wait for each other.
PROCESSES ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt
# A stamp stands for an installed set of extras, and goes stale when what it was made from changes.
ENGINE := .venv/.installed-engine
DEV := .venv/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo serve test lint clients train bench bench-service docs clean

help: ## Show what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: $(ENGINE) ## Serve, ask, and save demo/output.png, demo/depth.png and demo/sheet.png
	$(BIN)/python examples/demo.py $(ARGS)

serve: $(ENGINE) ## Start the HTTP API and a worker on 127.0.0.1:8000: make serve ARGS="--port 9000"
	$(BIN)/depthwright serve $(ARGS)

test: lint clients ## Check everything: style, types, import directions, tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile $(ARGS)

lint: $(DEV) ## Check style, types and import directions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clients: $(DEV) ## Install the official clients that the acceptance tests run, each in a place of its own
	$(BIN)/python -m tests.acceptance.clients

train: $(DEV) ## Make the embedded model again, all phases or one: make train ARGS=flow
	$(BIN)/python -m training $(or $(ARGS),all)

bench: $(DEV) ## Measure how well pictures follow their depth maps
	$(BIN)/python -m benchmarks.fidelity $(ARGS)

bench-service: $(DEV) ## Measure what the service adds and bears, beside LitServe and BentoML
	$(BIN)/python -m benchmarks.service $(ARGS)

docs: $(DEV) ## Write docs/parameters.md and docs/settings.md from their tables
	$(BIN)/python docs/tables.py

clean: ## Remove the environment, caches and the demo's pictures
	rm -rf .venv demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests training examples benchmarks comfyui -name __pycache__ -type d -exec rm -rf {} + 2>/dev/null || true

$(ENGINE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the engine and the server into .venv (the first time this takes minutes)"
	$(PIP) -e ".[engine,server]"
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the engine, the server and the tools of development into .venv (the first time this takes minutes)"
	$(PIP) -e ".[engine,server,int8,dev]"
	@touch $@ $(ENGINE)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or later, or name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "depthwright needs Python 3.11 or later; this is $$($(PYTHON) --version). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv package (python3-venv on Debian and Ubuntu)." >&2; exit 1; }
	$(PYTHON) -m venv .venv
