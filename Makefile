# From a fresh clone, on a machine that has Python 3.11 or newer and nothing else, every target does its own set-up in .venv
# (once: later calls see a stamp file and start at once). `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-parity test-gcs test-aot test-slow lint format lock wheel clean

# The first Python on the PATH that is new enough; `make demo PYTHON=/path/to/python3.12` overrides it.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3 python,$(shell \
	$(p) -c 'import sys; print("$(p)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
PYTEST := $(BIN)/python -m pytest -q --durations=12
WORKERS ?= 2
# Large arrays on huge pages: with XLM-R's vocabulary a step on CPU spends a third of its time on page faults otherwise.
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
WORKDIR ?= runs/demo

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# ---- set-up: one stamp for each layer of the lock files -----------------------------------------------------------------
# Nothing is compiled to bytecode ahead: most modules are never imported, and the rest compile at their first import.

$(VENV)/.core: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "xtl needs Python 3.11 or newer; none is on the PATH. Name one: make ... PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV): $$(grep -c == requirements.lock) packages, once (a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --no-compile --no-deps -r requirements.lock
	@$(PIP) install --no-compile --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.core
	@$(PIP) install --no-compile --no-deps -r $<
	@touch $@

# With its dependencies: PyTorch's build for CUDA (what some indexes serve) brings NVIDIA's libraries.
$(VENV)/.parity: requirements-parity.lock $(VENV)/.dev
	@echo "adding PyTorch for the parity tests"
	@$(PIP) install --no-compile -r $<
	@touch $@

$(VENV)/.gcs: requirements-gcs.lock $(VENV)/.dev
	@$(PIP) install --no-compile --no-deps -r $<
	@touch $@

$(VENV)/.tpu: requirements-tpu.lock $(VENV)/.dev
	@echo "adding the TPU compiler"
	@$(PIP) install --no-compile --no-deps -r $<
	@touch $@

setup: $(VENV)/.dev ## make .venv with xtl and the test tools

# ---- the two commands of the README -------------------------------------------------------------------------------------

demo: $(VENV)/.core ## the three phases end to end on the embedded synthetic languages, with a results table
	@$(BIN)/xtl run --config=configs/demo.py --workdir=$(WORKDIR)

test: $(VENV)/.dev ## the fast tests; no network, no PyTorch, no accelerator
	@$(PYTEST) -n $(WORKERS) --dist loadfile -m "not parity and not gcs and not aot and not slow"

# ---- further tiers (BUILD.md says what each is for) ---------------------------------------------------------------------

test-parity: $(VENV)/.parity ## weights, logits and training against PyTorch
	@$(PYTEST) -m "parity and not slow"

test-gcs: $(VENV)/.gcs ## work directories in gs://, on an emulator that the tests start
	@$(PYTEST) -m "gcs and not slow"

test-aot: $(VENV)/.tpu ## compile for TPU ahead of time, with no TPU present
	@$(PYTEST) -m "aot and not slow"

test-slow: $(VENV)/.parity $(VENV)/.tpu ## everything that is marked slow
	@$(PYTEST) -m slow

lint: $(VENV)/.dev ## ruff (rules and format), the rooms' import contracts, and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy

format: $(VENV)/.dev ## let ruff fix and format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(VENV)/.dev ## resolve the lock files again after a change in pyproject.toml
	@$(BIN)/python scripts/lock.py

wheel: $(VENV)/.core ## dist/xtl-*.whl
	@$(PIP) wheel --no-deps --no-build-isolation -w dist .
	@ls -l dist

clean: ## remove .venv, caches and builds (runs/ stays)
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
