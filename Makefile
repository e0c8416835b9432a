# Everything runs in .venv, which the first target makes; only Python >= 3.11 and make are needed.
#   make test PYTHON=python3.12    another interpreter

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
READY := $(VENV)/.ready

# One thread per process: the tests run one process per core, and small tensors gain nothing from more.
TEST_THREADS ?= 1
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo test slow check format lint types layers fix bench-tiny bench-qa clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## photograph an unseen procedural room, reconstruct it, ask three questions, print the truth beside
	$(RUN)/python examples/demo.py

test: $(READY) ## the tests
	OMP_NUM_THREADS=$(TEST_THREADS) $(RUN)/python -m pytest -n $(WORKERS) --maxprocesses 8 -m "not slow"

slow: $(READY) ## the tests that take more than a few seconds
	OMP_NUM_THREADS=$(TEST_THREADS) $(RUN)/python -m pytest -n $(WORKERS) --maxprocesses 8 -m slow

check: format lint types layers test ## format, lint, types, layers and tests: all that a change has to pass

format: $(READY)
	$(RUN)/ruff format --check .

lint: $(READY)
	$(RUN)/ruff check .

types: $(READY)
	$(RUN)/pyright --pythonpath $(RUN)/python

layers: $(READY)
	$(RUN)/lint-imports

fix: $(READY) ## format the code and mend what lint can mend
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench-tiny: $(READY) ## the embedded model on held-out rooms, beside two baselines; the last line is JSON
	$(RUN)/python benchmarks/tiny.py

bench-qa: $(READY) ## the embedded models on questions about held-out rooms, beside baselines; the last line is JSON
	$(RUN)/python benchmarks/qa.py

clean: ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache build *.egg-info

$(READY): pyproject.toml constraints.txt
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@
