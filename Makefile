# One-word commands. Each makes the virtual environment it needs; `PYTHON=python3.12 make test` picks another Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo run test test-slow check screenshots bench clean

demo: $(VENV)/installed
	$(BIN)/storemon demo

run: $(VENV)/installed
	$(BIN)/storemon serve

test: $(VENV)/dev
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

# The tests that take minutes: kills at random moments, a sweep over every zone, memory on long files.
test-slow: $(VENV)/dev
	$(BIN)/python -m pytest -m slow

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Pictures of every page, for the README and docs/pages.md. Needs Chromium.
screenshots: $(VENV)/dev
	$(BIN)/python docs/make_screenshots.py

# Against DuckDB and the sqlite3 shell, in turn; takes about half an hour and writes docs/benchmarks.md.
bench: $(VENV)/bench
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bench: $(VENV)/installed benchmarks/requirements.txt
	$(PIP) -r benchmarks/requirements.txt
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "storemon needs Python 3.11 or newer: PYTHON=python3.12 make ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python setup.cfg requirements.txt
	$(PIP) -e .
	touch $@

$(VENV)/dev: $(VENV)/installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@
