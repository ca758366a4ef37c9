"""Fixtures and rules of tests and e2e, known to pytest once: there is one mongod and one browser for both."""

pytest_plugins = ["tests.fixtures"]
