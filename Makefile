# One command a verb; each makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AUDIT := .venv-audit
DEMO := coablate-demo

.PHONY: help demo test test-slow test-cluster chaos lint types bench docs-check golden mutants audit

help: ## Show the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@echo "== installing into $(VENV)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

demo: $(READY) ## Make the embedded data set, run the module ablation and the single streams on it, print the tables
	$(BIN)/coablate data generate $(DEMO)/raw --difficulty 2 --replications 4
	$(BIN)/coablate data prepare ntu $(DEMO)/raw $(DEMO)/store --short-side 64
	$(BIN)/coablate run modules --data $(DEMO)/store --out $(DEMO)/out --seeds 3
	$(BIN)/coablate run streams --data $(DEMO)/store --out $(DEMO)/out --seeds 3

test: $(READY) ## Run the tests (real Ray, MLflow and Optuna; minutes)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY) ## Run the tests that take minutes each
	$(BIN)/python -m pytest -m "slow and not hosts and not chaos"

test-cluster: $(READY) ## Bring a cluster of hosts up over SSH on this machine, and end some of them (needs root)
	$(BIN)/python -m pytest -m hosts

chaos: $(READY) ## Kill processes of studies at a hundred random moments (an hour or more)
	$(BIN)/python -m pytest -m chaos

lint: $(READY) ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## Check types, strictly
	$(BIN)/mypy
	$(BIN)/mypy benchmarks

bench: $(READY) ## Measure speed as ratios and rewrite docs/performance.md's tables
	$(BIN)/python benchmarks/run.py

audit: ## Look up known vulnerabilities of the pinned packages; skipped where that data is out of reach
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install --quiet pip-audit; }
	$(PYTHON) .ci/audit.py $(AUDIT)/bin/pip-audit constraints.txt

mutants: $(READY) ## Change the files that decide, one thing at a time, and see whether a test fails (an hour)
	$(BIN)/python tests/mutation/mutate.py

golden: $(READY) ## Rewrite the golden loss curves, on purpose
	$(BIN)/python -m pytest tests/train/test_golden.py --rewrite-golden

docs-check: $(READY) ## Check that every path and command the documents name exists
	$(BIN)/python -m pytest tests/test_docs.py
