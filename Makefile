PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OLDEST := .venv-oldest

.PHONY: install demo test lint types suite docs oldest clean
.DELETE_ON_ERROR:

# bytecode is made of what is imported, when it is: compiling all that is installed takes longer than installing it
PIP_WAY := --quiet --disable-pip-version-check --no-compile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_WAY) --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/ssdtune demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/docstrings.py

types: install
	$(BIN)/mypy

# the documentation site, in build/site; a warning or a dead link is an error, and the notebook runs first (a minute)
docs: install
	$(BIN)/python -m pip install $(PIP_WAY) --constraint constraints.txt --editable '.[notebook]'
	OMP_NUM_THREADS=1 $(BIN)/jupyter execute --timeout=600 docs/half_hour.ipynb
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# two processes of one thread: the models are tiny, and two threads on two busy cores wait for each other, as three
# processes do; in the order of tests/conftest.py, as the long files with few tests would else come last and leave a
# core idle
PYTEST := python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

suite: install
	OMP_NUM_THREADS=1 $(BIN)/$(PYTEST) --durations=15

# `make --jobs=3 test`, as continuous integration has it, checks style and types beside the tests
test: lint types suite

# the tests with the oldest versions that pyproject.toml admits; torch is that of constraints.txt
oldest:
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	grep -oE '"[a-z0-9-]+(\[[a-z]+\])?>=[0-9.]+"' pyproject.toml | grep -vE '"(torch|setuptools)>' | \
		sed -E 's/"|\[[a-z]+\]//g; s/>=/==/' > $(OLDEST)/bounds.txt
	$(OLDEST)/bin/python -m pip install $(PIP_WAY) --constraint constraints.txt --constraint $(OLDEST)/bounds.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 $(OLDEST)/bin/$(PYTEST)

clean:
	rm -rf $(VENV) $(OLDEST) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
