# make demo | test | check | install | bench | chaos
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= python3

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
	$(PY) -m pytest

check: install  ## style, types, arrows between packages
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

chaos: install  ## the kill tests with many more rounds; about an hour
	SYNC_TEST_ROUNDS=100 SYNC_TEST_KILL_ROUNDS=25 SYNC_TEST_DOORBELL_ROUNDS=500 $(PY) -m pytest \
	  e2e tests/contract tests/log --timeout 3000
	$(PY) e2e/crash_recovery.py
	$(PY) e2e/comprehensive.py

bench: install  ## figures beside nginx+nchan; needs nginx, libnginx-mod-nchan and a C compiler
	$(PY) -m bench

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
