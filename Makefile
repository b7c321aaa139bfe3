# UCM: `make run` starts a working server, `make test` runs every check. Both need only Python 3.11+, pip and make.
#
# One environment, .venv, serves both. `make run` installs the core into it; `make test` adds the development
# set. Stamp files inside .venv say which extras are installed; a changed pyproject.toml makes them old.
# Variables of the environment (UCM_DATA_DIR, UCM_HTTPS_PORT, UCM_ADMIN_PASSWORD, ...) pass through to the server.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMP  := $(VENV)/.stamp

# A server on PostgreSQL needs its driver; EXTRAS=... adds any other extra.
EXTRAS ?= $(if $(filter postgresql%,$(UCM_DATABASE_URL)),postgresql,)
# Arguments for `ucm serve`, pytest and the benchmarks.
ARGS ?=
# Databases that the suite runs on, and test processes at a time.
DATABASE ?= both
JOBS     ?= 2
# Tests run in random order; in CI in the same one each time, so that a red run is about the change.
SEED     ?= $(if $(CI),--randomly-seed=20261124,)
CHECKED  := ucm plugins $(wildcard tests) $(wildcard examples) $(wildcard benchmarks) $(wildcard conftest.py)
SUITES   := $(wildcard tests) plugins $(wildcard examples)
UNIT     := tests/unit tests/domain tests/issuance tests/arch

comma := ,
empty :=
space := $(empty) $(empty)
run_stamp := $(STAMP)-core$(if $(EXTRAS),-$(subst $(comma),-,$(subst $(space),-,$(strip $(EXTRAS)))))

.PHONY: help run venv peers test unit arch lint format bench api-surface settings-reference clean distclean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(run_stamp) ## start the server (https 127.0.0.1:8443, http 127.0.0.1:8080; settings by UCM_* variables)
	@exec $(BIN)/ucm serve $(ARGS)

venv: $(STAMP)-dev ## make or refresh .venv with the development set

test: venv peers lint ## every check: peers, lint, and all tests on SQLite and PostgreSQL
	@$(BIN)/python -m pytest $(SUITES) -n $(JOBS) --dist loadscope --database $(DATABASE) \
	  --durations 10 --durations-min 5 $(ARGS)

unit: $(STAMP)-dev ## the quick part: unit and architecture tests on SQLite
	@$(BIN)/python -m pytest $(UNIT) -q -n $(JOBS) $(ARGS)

peers: ## programs that tests run against; installed when root, listed when not
	@bash .ci/peers

lint: $(STAMP)-dev ## style, types and the layers
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check --quiet $(CHECKED) \
	  || { echo "these files are not formatted; run: make format" >&2; $(BIN)/ruff format --check $(CHECKED) >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP)-dev ## format and fix what has one right answer
	@$(BIN)/ruff check --fix --quiet $(CHECKED) || true
	@$(BIN)/ruff format $(CHECKED)

bench: $(STAMP)-dev peers ## speed, memory and size, as ratios against a named peer or limit
	@$(BIN)/python -m benchmarks $(ARGS)

api-surface: $(STAMP)-dev ## rewrite the golden listing of ucm.api after a deliberate change
	@$(BIN)/python -m tests.arch.surface > tests/arch/api_surface.txt

settings-reference: $(STAMP)-dev ## rewrite docs/settings.md after a change of a settings class
	@$(BIN)/python -m ucm.runtime.settings_reference > docs/settings.md

clean: ## remove caches and builds
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## also remove .venv (never the data of a server)
	@rm -rf $(VENV)

# --- the environment -------------------------------------------------------------------------------------------

# Debian splits venv's pip off into python3-venv; with pip >= 22.3 the environment can be filled from outside.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null \
	  || { echo "$(PYTHON) was not found; install Python 3.11 or newer, or say PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "UCM needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version); say PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	   $(PYTHON) -m venv $(VENV); \
	 else \
	   $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV)/bin/python install --quiet pip \
	   || { rm -rf $(VENV); echo "this Python has neither ensurepip nor pip; on Debian: apt-get install python3-venv" >&2; exit 1; }; \
	 fi

$(STAMP)-dev: pyproject.toml | $(BIN)/python
	@echo "installing UCM and the development set into $(VENV) (about a minute, once)"
	@$(PIP) install -e '.[dev]'
	@touch $@ $(STAMP)-core $(STAMP)-core-postgresql

$(STAMP)-core%: pyproject.toml | $(BIN)/python
	@echo "installing UCM with extras '$(EXTRAS)' into $(VENV) (about half a minute, once)"
	@$(PIP) install -e '.[$(subst $(space),$(comma),$(strip $(EXTRAS)))]'
	@touch $@ $(STAMP)-core

$(STAMP)-core: pyproject.toml | $(BIN)/python
	@echo "installing UCM into $(VENV) (about half a minute, once)"
	@$(PIP) install -e .
	@touch $@
