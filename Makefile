# make demo   sets up what is missing and audits a model of simulated brains
# make test   sets up what is missing and runs the tests
# Choose a PyTorch build by configuring pip (see README); PYTHON names the interpreter.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: setup demo test test-all check format benchmarks clean

setup: $(READY)

$(READY): 
	$(PYTHON) -c 'import sys; sys.exit("privoxel needs Python 3.11 or newer, got %d.%d. Set PYTHON=python3.11 (or newer)." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet torch==2.13.0
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[fl-sim,dp,monai,onnx,tabular,preproc,dev]"
	rm -f $(VENV)/.ready-* && touch $@

demo: setup
	$(BIN)/privoxel demo -o runs/demo --resume

test: setup
	$(BIN)/python -m pytest -m "not slow" -n 2 -q

test-all: setup
	$(BIN)/python -m pytest -q

check: setup
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell src tests docs examples benchmarks README.md CONTRIBUTING.md CHANGELOG.md

format: setup
	$(BIN)/ruff format src tests examples benchmarks
	$(BIN)/ruff check --fix src tests examples benchmarks

benchmarks: setup
	$(BIN)/python benchmarks/simulation.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/layers.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
