# make demo | test | check | install | bench | chaos
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= python3
# Tests wait more than they compute: more processes than the two cores of a small machine keep both busy.
JOBS ?= 4
PARALLEL := -n $(JOBS) --dist worksteal
# make chaos ROUNDS=5 KILL_ROUNDS=2 DOORBELL_ROUNDS=20 is a small one
ROUNDS ?= 100
KILL_ROUNDS ?= 25
DOORBELL_ROUNDS ?= 500

# Where it is set, each of the hundreds of processes that tests start would compile all of the code again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test check chaos bench clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "order-sync needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: install  ## a shop day, streaming in the terminal until Ctrl-C
	$(VENV)/bin/sync-server demo

test: install  ## every test; SYNC_TEST_NO_SKIP=1 turns a skipped one into a failure
	$(PY) -m pytest $(PARALLEL) -m "not alone"
	$(PY) -m pytest -m alone

check: install  ## style, types, arrows between packages
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

chaos: install  ## the kill tests with many more rounds
	SYNC_TEST_ROUNDS=$(ROUNDS) SYNC_TEST_KILL_ROUNDS=$(KILL_ROUNDS) SYNC_TEST_DOORBELL_ROUNDS=$(DOORBELL_ROUNDS) \
	  SYNC_TEST_FUELING_KILL_ROUNDS=30 SYNC_TEST_SESSION_KILL_ROUNDS=30 \
	  $(PY) -m pytest $(PARALLEL) --timeout 3000 e2e tests/contract tests/log tests/server/test_snapshot_under_load.py

bench: install  ## all figures, beside other servers; see bench/README.md for what it needs
	$(PY) -m bench
	$(PY) -m bench.page

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
