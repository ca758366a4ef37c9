"""The same fixtures and the same rule about skipping as the unit tests."""

from tests.conftest import (  # noqa: F401
    chromium_path,
    mongod,
    mongodb_database,
    pytest_make_collect_report,
    pytest_runtest_makereport,
    replica_set,
    respx_mock,
)
