# Everything is set up by the first target that needs it. VENV and PYTHON can be overridden.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo serve-demo test test-old-processor test-spark test-mlflow check docs format clean help

# Without the variable, the theme prints an advertisement for its successor at each build.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

help: ## Lists the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

demo: $(VENV)/.demo ## Makes a shop, trains rankers on it, compares them, writes a report and a bundle to serve.
	$(BIN)/shelfrank demo --out demo
	@echo "or: make serve-demo"

serve-demo: demo ## Serves the demo's ranker, with a page to search as any shopper.
	$(BIN)/shelfrank serve demo/bundle

test: $(VENV)/.test ## Runs the tests.
	$(BIN)/python -m pytest

# PyTorch, oneDNN, MKL, NumPy, OpenBLAS and the C library each leave out what an old processor lacks.
OLD_PROCESSOR := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE \
	NPY_DISABLE_CPU_FEATURES=X86_V3 OPENBLAS_CORETYPE=Prescott GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-FMA,-AVX
NUMERIC_TESTS := tests/bundle/test_onnx.py tests/bundle/test_golden.py tests/nn tests/metrics tests/train/test_losses.py \
	tests/train/test_trainer.py tests/simulator/test_storefront_portable.py

test-old-processor: $(VENV)/.test ## Runs the numeric tests as a processor without AVX would.
	$(OLD_PROCESSOR) $(BIN)/python -W ignore -m pytest -p no:cacheprovider $(NUMERIC_TESTS)

test-spark: $(VENV)/.test ## Runs the tests that need Spark and Java 17.
	$(PIP) install --quiet -c constraints.txt -e '.[spark]'
	$(BIN)/python -m pytest -m spark -n 0 --timeout 900

test-mlflow: $(VENV)/.test ## Runs the tests that need MLflow.
	$(PIP) install --quiet -c constraints.txt -e '.[mlflow]'
	$(BIN)/python -m pytest -n 0 tests/test_tracking.py

check: $(VENV)/.dev ## Format, lint, types, import layers, docstrings, docs.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pydoclint --quiet src
	$(BIN)/basedpyright
	$(MKDOCS) build --strict

docs: $(VENV)/.dev ## Builds the docs as a site, site/index.html.
	$(MKDOCS) build --strict

format: $(VENV)/.dev ## Formats and fixes what can be fixed.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Removes what the demo and the docs wrote.
	rm -rf demo site

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "shelfrank needs Python 3.11 or newer; set PYTHON")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[offline,export]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.demo
