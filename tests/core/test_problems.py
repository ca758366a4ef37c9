"""Problem documents: RFC 9457, one status per class."""

import json
from http import HTTPStatus

import pytest

import sync_core.problems as problems
from sync_core.problems import Conflict, FieldError, OutcomeUnknown, Problem, SyncError, Unavailable, Unprocessable


def tree(base: type[Problem]) -> list[type[Problem]]:
    return [found for child in base.__subclasses__() for found in (child, *tree(child))]


EXPECTED = {
    "InvalidRequest": 400, "Unauthorized": 401, "Forbidden": 403, "NotFound": 404, "MethodNotAllowed": 405,
    "Conflict": 409, "CursorGone": 410, "TooLarge": 413, "UnsupportedMedia": 415, "Unprocessable": 422,
    "TooManyRequests": 429, "InternalError": 500, "Unavailable": 503, "OutcomeUnknown": 503,
}  # fmt: skip


@pytest.mark.parametrize(("name", "status"), EXPECTED.items())
def test_every_class_has_its_status_and_title(name: str, status: int) -> None:
    document = getattr(problems, name)("why").document()
    assert document["status"] == status
    assert document["title"] == HTTPStatus(status).phrase
    assert document["detail"] == "why"


def test_the_classes_of_the_table_are_all_there_are() -> None:
    assert {kind.__name__ for kind in tree(Problem) if kind.__module__ == problems.__name__} == set(EXPECTED)


def test_what_is_exported_is_what_is_there() -> None:
    classes = [value for value in vars(problems).values() if isinstance(value, type)]
    public = {kind.__name__ for kind in classes if kind.__module__ == problems.__name__}
    assert set(problems.__all__) == public


def test_faults_are_listed_with_their_paths() -> None:
    problem = Unprocessable("no", errors=(FieldError("events[3].data", "is missing"), FieldError("", "whole")))
    assert problem.document()["errors"] == [
        {"path": "events[3].data", "message": "is missing"},
        {"path": "", "message": "whole"},
    ]


def test_a_problem_without_faults_has_no_list_of_them() -> None:
    assert "errors" not in Conflict("no").document()


def test_extensions_are_members_of_the_document() -> None:
    assert Conflict("no", extensions={"current": {"version": 7}}).document()["current"] == {"version": 7}


def test_documents_are_json() -> None:
    assert json.loads(json.dumps(Conflict("كولا", errors=(FieldError("a", "b"),)).document()))["detail"] == "كولا"


def test_who_waits_for_a_server_waits_for_an_unknown_outcome_too() -> None:
    assert issubclass(OutcomeUnknown, Unavailable)
    assert OutcomeUnknown("?").document()["type"] == "outcome-unknown"
    assert issubclass(Problem, SyncError)
