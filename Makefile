# Two commands on a fresh machine: `make quickstart` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Bytecode caching off makes every import several times slower.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-fast test-oldest server extras check format lint types contracts clean

quickstart: $(VENV)/.installed  ## set up and run the main job; ARGS="--signal 0" passes options
	$(BIN)/freqtrade-mlpipe quickstart $(ARGS)

test: $(VENV)/.installed-dev  ## set up and pass all tests; ARGS="-k features" passes options
	$(BIN)/python -m pytest $(ARGS)

test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow and not e2e" $(ARGS)

test-oldest: $(VENV)-oldest/.installed  ## the oldest versions that pyproject.toml allows
	$(VENV)-oldest/bin/python -m pytest -m "not slow" $(ARGS)

server: $(VENV)-server/.installed  ## an MLflow server for tests: MLPIPE_SERVER_PYTHON=$(VENV)-server/bin/python

extras: $(VENV)/.installed-dev  ## what tests of optional parts need beside the development packages
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[wandb,drift,dask]" psycopg2-binary

check: lint types contracts test  ## everything a change must pass

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

contracts: $(VENV)/.installed-dev
	$(BIN)/lint-imports

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(VENV)-oldest/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-oldest/bin/uv pip install --quiet --python $(VENV)-oldest/bin/python --resolution lowest-direct -e . \
		"joblib>=1.4,<1.6" "pytest>=8.3" "pytest-xdist>=3.6" "hypothesis>=6.120"
	@touch $@

# Apart from the package, whose mlflow-skinny it would replace.
$(VENV)-server/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-server
	$(VENV)-server/bin/python -m pip install --quiet --disable-pip-version-check "mlflow>=3.17,<4" psycopg2-binary
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-server .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist build
