# `make` lists the targets. Needed: Python 3.11 or newer, make, and PyPI.

PYTHON ?= python3
PYTEST ?=
# Processes that share the quick tests.
WORKERS ?= 2
WORKDIR ?= runs/quickstart
BENCH ?=
# They are tried against, and are no dependencies.
LAUNCHERS := "skypilot==0.14.1" "xpk==1.16.0"

# Reaches the tools whether or not an environment is active, and nothing of the user's own.
BIN := .venv/bin
export PYTHONNOUSERSITE := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup quickstart test test-all test-torch test-tpu test-launchers bench lint types audit format constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile
	@echo "make PYTHON=python3.13 ... chooses the interpreter (python3 is the default),"
	@echo "make PYTEST='-k attention' test hands pytest its arguments, BENCH the benchmark;"
	@echo "make WORKERS=0 test runs the tests in one process."

setup: ## make .venv, with what users and developers need
	@tools/venv.sh "$(PYTHON)" .venv dev,quickstart

quickstart: ## train Middle English to modern English, score it, translate with it (minutes)
	@tools/venv.sh "$(PYTHON)" .venv quickstart
	$(BIN)/jaxformer train --config=configs/quickstart.py --workdir=$(WORKDIR)
	$(BIN)/jaxformer evaluate --workdir=$(WORKDIR) --split=test
	$(BIN)/python experiments/quickstart.py --workdir=$(WORKDIR)

test: setup ## run the tests, except slow ones and those with needs (at most 15 minutes)
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal $(PYTEST)

test-all: setup ## run every test, and list those that could not run here
	$(BIN)/python -m pytest --all $(PYTEST)

test-torch: ## run the tests against PyTorch, in .venv-torch
	@tools/venv.sh "$(PYTHON)" .venv-torch dev,quickstart,torch
	.venv-torch/bin/python -m pytest --needs=torch $(PYTEST)

test-tpu: ## compile for slices of TPUs without having one, in .venv-tpu
	@tools/venv.sh "$(PYTHON)" .venv-tpu dev,quickstart,tpu
	.venv-tpu/bin/python -m pytest --needs=tpu-compiler $(PYTEST)

test-launchers: setup ## hand the files of --executor to SkyPilot and xpk, in .venv-launchers
	@test -x .venv-launchers/bin/xpk || { "$(PYTHON)" -m venv .venv-launchers && \
		.venv-launchers/bin/python -m pip install -q $(LAUNCHERS); }
	LAUNCHERS_PYTHON=.venv-launchers/bin/python $(BIN)/python -m pytest --needs=launchers $(PYTEST)

bench: setup ## compare speed with PyTorch and CTranslate2 (an hour; BENCH_QUICK=1: ten minutes)
	@tools/venv.sh "$(PYTHON)" .venv-peers peers
	@mkdir -p runs
	@$(BIN)/python -m experiments.benchmarks.bench --peers=.venv-peers/bin/python \
		--output=runs/bench.json $(BENCH)

lint: setup ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup ## check types
	$(BIN)/ty check

audit: setup ## look for known vulnerabilities and forbidden licences among the dependencies
	@tools/venv.sh "$(PYTHON)" .venv dev,quickstart,audit || echo "pip-audit cannot be installed."
	$(BIN)/python tools/audit.py

format: setup ## mend style and format where that can be done by machine
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

constraints: ## pin the newest versions that pyproject.toml allows, for this PYTHON
	$(PYTHON) tools/constraints.py

clean: ## remove environments and caches; runs and constraints stay
	rm -rf .venv .venv-launchers .venv-peers .venv-torch .venv-tpu .cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
