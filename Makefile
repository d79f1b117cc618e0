# Each target does its own set-up. Needs python3.11 with venv and pip, and nothing else.
PYTHON ?= python3.11
BIN := .venv/bin
WORKERS ?= 2

.PHONY: venv demo test check bench docs lock clean

venv: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: venv
	$(BIN)/python -m worker demo $(DEMO)

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check  # WORKERS processes share the tests, a file at a time, in the order of tests/conftest.py
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=85 > .venv/coverage.txt || { cat .venv/coverage.txt; exit 1; }

bench: venv
	$(BIN)/python -m worker bench diversify
	$(BIN)/python -m worker bench scoring
	$(BIN)/python -m worker bench stream

docs: venv  # what the README shows of the settings, and the JSON schemas
	$(BIN)/python tests/generate.py

lock:  # a new lock file from pyproject.toml
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet 'torch==2.13.0' && .venv-lock/bin/pip install --quiet '.[test]' setuptools
	.venv-lock/bin/pip freeze --all --exclude prismrank --exclude pip > requirements.lock
	rm -rf .venv-lock build prismrank.egg-info

clean:
	rm -rf .venv .prismrank prismrank-data build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
