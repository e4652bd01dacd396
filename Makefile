# Needs Python 3.11 or later and make; all else goes into .venv. Another Python: make PYTHON=python3.13 …

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := --quiet --upgrade --generate-hashes --strip-extras --no-header --no-emit-index-url --no-emit-trusted-host \
	--no-emit-options --no-emit-find-links

.PHONY: help demo test lint docs bench bench-full requirements clean

help:
	@echo "make demo    see the traces of some jobs: starts a Redis of its own, needs nothing else"
	@echo "make test    all tests that pip can bring everything for"
	@echo "make lint    ruff and mypy"
	@echo "make docs    write the pages under docs/ that are made from the code"
	@echo "make bench   measure, against HAProxy and twemproxy; takes a quarter of an hour (bench-full: hours)"
	@echo "make requirements   bring what the image installs up to date"
	@echo "make clean   remove what was made here"

demo: $(VENV)/.demo
	$(BIN)/redspan demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 3 -m "not extra"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.dev
	$(BIN)/python -m tests.docs

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench

bench-full: $(VENV)/.dev
	$(BIN)/python -m tests.bench --full

# What the image installs: every version with its hashes, for all Pythons and machines, and no host. The oldest Python
# that we support resolves it, so that what newer ones no longer need is in it as well.
requirements: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(VENV)/pip-tools --upgrade 'pip-tools>=7.5'
	PYTHONPATH=$(VENV)/pip-tools $(BIN)/python -m piptools compile $(LOCK) --output-file deploy/requirements.txt \
		pyproject.toml
	PYTHONPATH=$(VENV)/pip-tools $(BIN)/python -m piptools compile $(LOCK) --output-file deploy/requirements-build.txt \
		deploy/requirements-build.in

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each set of dependencies: made once, and again when pyproject.toml changes.

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "redspan needs Python 3.11 or later, and \
	$(PYTHON) is not: make PYTHON=python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --target $(VENV)/redis-py-5 --upgrade 'redis>=5,<6'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --target $(VENV)/arq --upgrade 'arq>=0.26'
	@touch $@ $(VENV)/.demo
