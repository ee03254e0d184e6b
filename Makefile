# Two commands: `make demo` and `make test`. Everything else is `.venv/bin/resunet --help`.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
PORT ?= 5000
SHELL := /bin/bash
PACKAGES := benchmarks monitoring pipelines records registry resunet serving
comma := ,
# Azure's storage emulator, for the test of an artifact store there.
AZURITE := azurite@3.35.0

.PHONY: help setup demo server test lint types imports clean

help:
	@echo "make setup    build .venv with mlflow, python and resunet in it"
	@echo "make demo     the whole path: train, register, promote, serve, drift report (DATA=folder for your images)"
	@echo "make server   the tracking server and its UI on what the demo or your training left"
	@echo "make test     lint, types, import directions and every test"
	@echo "make clean    remove .venv and the caches; .resunet, which holds your work, stays"

setup: .venv/.setup

# Tens of thousands of modules are compiled by all cores here; pip would take them one by one.
define install
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '$(1)'
	$(BIN)/python -m compileall -qq -j 0 -x '/tests/' .venv/lib || true  # templates among them are not Python
endef

.venv/.setup: pyproject.toml constraints.txt
	$(call install,.)
	@touch $@

# With what tests need, in one go: .setup is part of it.
.venv/.test: pyproject.toml constraints.txt
	$(call install,.[auth$(comma)azure$(comma)dev$(comma)otel$(comma)postgres])
	if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --no-package-lock --prefix .venv/azurite $(AZURITE); fi
	@touch .venv/.setup $@

demo: setup
	@$(BIN)/python -m pipelines demo --data "$(DATA)"

server: setup
	@$(BIN)/python -m pipelines server --port $(PORT)

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.test
	$(BIN)/mypy --num-workers auto

imports: .venv/.test
	$(BIN)/lint-imports

# Two files run at a time, on one thread each where they compute: threads that spin slow the other one down. All folders
# in one go: each would be collected anew, and one core would wait at the end of each.
test: lint types imports
	$(BIN)/python -m compileall -qq -j 0 $(PACKAGES)  # else hundreds of processes would, one by one
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
