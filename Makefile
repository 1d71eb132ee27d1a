# `make` alone lists what there is. Everything is installed into .venv, from the lock files, every file by its hash.

PYTHON ?= python3
UV ?= uv
PREFIX ?= /opt/gateway
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCKED := $(PIP) install --require-hashes --no-deps
DEPLOYED := $(PREFIX)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps
COMPILE := $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help up install deploy develop tools check format test long faults fuzz bench sbom lock

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

up: $(VENV)/.runtime ## Start a gateway on this machine (options: make up ARGS="--host registry.local --port 5000")
	@exec $(BIN)/gateway up $(ARGS)

install: $(VENV)/.runtime ## Install the gateway into .venv, ready to run

deploy: $(VENV)/.runtime ## Install or upgrade the gateway as a service has it, apart from this tree (PREFIX=/opt/gateway)
	@rm -rf build/wheel
	@$(BIN)/python -m hatchling build -t wheel -d build/wheel >/dev/null
	@$(PYTHON) -m venv $(PREFIX)
	@$(DEPLOYED) --require-hashes -r requirements.lock
	@$(DEPLOYED) --no-index --force-reinstall build/wheel/*.whl
	@echo "Installed: $(PREFIX)/bin/gateway. Next: the first lines of config/gateway.service"

develop: $(VENV)/.dev ## Install what developing takes as well

tools: ## Install the real services and clients that the tests start (Debian, as root)
	@tests/install-tools.sh

check: $(VENV)/.dev ## Read the code: style, types, and the plan of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_house.py
	$(BIN)/python -m tests.supply.advisories

format: $(VENV)/.dev ## Put the code in its common shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(VENV)/.dev tools ## Run the tests, with real services and clients (options: make test ARGS="-k token")
	$(BIN)/pytest -m "not long" -n auto --maxprocesses 4 --dist loadfile $(ARGS)

long: $(VENV)/.dev tools ## Run the tests that take longer than a quarter of an hour
	$(BIN)/pytest -m long --timeout 3600 $(ARGS)

faults: $(VENV)/.dev tools ## Strike a gateway in every way, and write what came of it into docs/reliability.md
	$(BIN)/python -m tests.faults.harness $(ARGS)

fuzz: $(VENV)/.dev ## Fuzz the parsers and the edge, a million executions each (options: make fuzz ARGS="names --seconds 60")
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(VENV)/.dev tools ## Measure
	$(BIN)/python -m tests.benchmarks $(ARGS)

sbom: $(VENV)/.dev ## Write the bill of materials of what runs: dist/sbom.json, CycloneDX
	@$(BIN)/python -m tests.supply.bill dist/sbom.json

lock: ## Choose the newest versions that pyproject.toml allows (needs uv), and write them to the lock files
	$(COMPILE) pyproject.toml --extra dev -o requirements-dev.lock
	$(COMPILE) pyproject.toml -c requirements-dev.lock -o requirements.lock
	$(COMPILE) --group build -c requirements-dev.lock -o requirements-build.lock

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The stamps depend on what they installed, so that a new lock is followed by the next command that needs it.
$(VENV)/.runtime: requirements.lock requirements-build.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the gateway into $(VENV)"
	@$(LOCKED) -r requirements.lock -r requirements-build.lock
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "Installing the development tools into $(VENV)"
	@$(LOCKED) -r requirements-dev.lock
	@touch $@
