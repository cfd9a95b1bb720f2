# Everything a contributor or CI runs. `make` alone lists it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BASELINE := protos/baseline.binpb

# Arguments for the tools behind `run` and `test`: make test ARGS="-k sessions"
ARGS ?=
JOBS ?=
# Tests start hundreds of processes: none of them compiles the program anew, whatever is set.
# So many at a time as are called for here, unless JOBS says it.
pytest = PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(or $(JOBS),$(1)) --dist loadfile --no-loadscope-reorder

.PHONY: help setup run generate baseline format lint types test test-quick test-full test-matrix test-directml-set coverage check bench clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create .venv with everything installed (PYTHON=python3.12 to choose)
	@:

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name it: make setup PYTHON=python3.12" >&2; exit 1; }
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[torch,dev]'
	@touch $@

run: setup ## Start the server, draw a first picture, keep serving until Ctrl-C
	@exec $(BIN)/python tools/first_run.py $(ARGS)

generate: setup ## Rewrite generated/ from protos/ (C# where a .NET SDK is installed)
	@$(BIN)/python tools/generate.py

baseline: setup ## Take the contract as it is now as what `check` calls compatible
	@$(BIN)/buf build protos --exclude-source-info -o $(BASELINE)

format: setup ## Format Python and protos
	@$(BIN)/ruff check --quiet --select I --fix
	@$(BIN)/ruff format
	@$(BIN)/buf format --write

lint: setup ## Style, protos, contract compatibility, who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking protos --against $(BASELINE)
	$(BIN)/lint-imports --no-logo

types: setup ## Types, strictly
	$(BIN)/mypy

# One more than a small machine's processors: tests of servers wait for a third of their time.
test: setup ## The tests, three at a time (ARGS="-k words" for some, JOBS=8 where there are cores)
	@$(call pytest,3) --tier usual $(ARGS)

test-quick: setup ## What needs neither torch nor a worker, for daily work: about a minute
	@$(call pytest,2) --tier quick $(ARGS)

test-full: setup ## What `test` leaves out: trainings, benchmarks' own tests, long oracles
	@$(call pytest,2) --tier demonstrations $(ARGS)

test-matrix: setup ## Every sampler with every mode and part against diffusers, on demand
	@$(call pytest,2) --tier matrix $(ARGS)

test-directml-set: ## The engine with DirectML's old torch, in an environment of its own (6 GB), on demand
	@$(PYTHON) tools/directml_set.py $(ARGS)

coverage: setup ## Which branches `test` takes, written to htmlcov/
	@$(call pytest,2) --tier usual --cov --cov-branch --cov-report html --cov-report term:skip-covered $(ARGS)

# Types are looked through while the tests wait for something, and what mypy says comes after
# what they say. In the background it hears no Ctrl-C.
check: setup ## All of it, as CI runs it: generated code is current, lint, types beside test
	@$(BIN)/python tools/generate.py --check
	@$(MAKE) --no-print-directory lint
	@said=$$(mktemp); nice $(BIN)/mypy >"$$said" 2>&1 & types=$$!; \
	trap 'kill $$types 2>/dev/null || :; rm -f "$$said"' EXIT; \
	tested=0; $(MAKE) --no-print-directory test || tested=$$?; \
	typed=0; wait $$types || typed=$$?; \
	echo "types: $$(cat "$$said")"; \
	exit $$((tested ? tested : typed))

bench: setup ## Benchmarks, as ratios against baselines measured in the same run
	@$(BIN)/python -m bench $(ARGS)

clean: ## Remove what tools left behind; .venv and pictures in out/ stay
	rm -rf build dist htmlcov .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf clients/csharp/*/bin clients/csharp/*/obj
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
