# One-word commands. Each makes the virtual environment it needs.
# `make test PYTHON=python3.13 VENV=.venv-3.13` uses another Python, in an environment of its own.
PYTHON ?= python3
VENV := .venv
BINARY := .venv-binary
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo run test test-without-browser test-slow check screenshots bench binary binary-versions clean

demo: $(VENV)/installed
	$(BIN)/storemon demo

run: $(VENV)/installed
	$(BIN)/storemon serve

test: $(VENV)/dev
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

# The same without the tests that look at pages in Chromium: what .ci/run does on every other Python.
test-without-browser: $(VENV)/dev
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --ignore tests/browser

# The tests that take minutes: kills at random moments, a sweep over every zone, memory on long files.
test-slow: $(VENV)/dev
	$(BIN)/python -m pytest -m "slow and not alone" --numprocesses 2 --dist loadgroup
	$(BIN)/python -m pytest -m "slow and alone"

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

# dist/storemon: one file that needs neither Python nor a network. Two minutes; binutils and, for the licences, dpkg.
binary: $(BINARY)/installed
	$(BINARY)/bin/pyinstaller --noconfirm --log-level WARN --distpath dist --workpath build/binary binary/storemon.spec
	@ls -l dist/storemon

# The newest versions that fit requirements.txt, into the list that `make binary` builds with.
binary-versions:
	rm -rf $(BINARY) && $(PYTHON) -m venv $(BINARY)
	$(BINARY)/bin/python -m pip --disable-pip-version-check install --quiet -r requirements.txt -r binary/requirements.txt
	$(BINARY)/bin/python binary/versions.py --write

clean:
	rm -rf $(VENV) .venv-3.* $(BINARY) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BINARY)/installed: requirements.txt binary/requirements.txt binary/constraints.txt
	$(PYTHON) -m venv --clear $(BINARY)
	$(BINARY)/bin/python -m pip --disable-pip-version-check install --quiet -r requirements.txt -r binary/requirements.txt -c binary/constraints.txt
	$(BINARY)/bin/python binary/versions.py
	touch $@

$(VENV)/bench: $(VENV)/installed benchmarks/requirements.txt
	$(PIP) -r benchmarks/requirements.txt
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "storemon needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python setup.cfg requirements.txt
	$(PIP) -e .
	touch $@

$(VENV)/dev: $(VENV)/installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@
