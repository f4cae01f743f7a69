"""Whatever answers in the place of the server is never believed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from amfs_core.errors import (
    AMFSError,
    BackendUnavailableError,
    ConfigurationError,
    OutcomeUnknownError,
    PermissionDeniedError,
    StorageFullError,
)
from amfs_core.memory import AgentMemory
from amfs_http import HttpAdapter, failures
from tests.support.errors import EVERY_ERROR
from tests.support.s3_store import Answer, answering

KEY = "team/entries/a/k/v1.json"
JSON = {"Content-Type": "application/json"}
OBJECT = {"Content-Type": "application/vnd.amfs.object"}


def answer(status: int, body: object, headers: dict[str, str] = JSON) -> Answer:
    return Answer(status, body if isinstance(body, str) else json.dumps(body), headers)


def problem(status: int, code: str, **more: object) -> Answer:
    document = {"type": f"urn:amfs:problem:{code}", "code": code, "detail": "because", **more}
    return answer(status, document, {"Content-Type": "application/problem+json"})


FOREIGN = {
    "a sign-in page": Answer(200, "<html>Sign in</html>", {"Content-Type": "text/html"}),
    "a redirect": Answer(302, "", {"Location": "http://127.0.0.1:9/"}),
    "nothing": Answer(204),
    "an empty success": Answer(200),
    "other JSON": answer(200, {"ok": True}),
    "other JSON, created": answer(201, {"ok": True}),
    "half of a document": answer(200, '{"objects": ['),
    "a list": answer(200, []),
    "a bad gateway": Answer(502, "bad gateway"),
    "absence by something else": Answer(404, "not found", {"Content-Type": "text/plain"}),
    "a conflict by something else": Answer(412, "", {"Content-Type": "text/plain"}),
    "a problem of another kind": answer(
        404,
        {"type": "https://example.com/no_object", "code": "no_object", "detail": ""},
        {"Content-Type": "application/problem+json"},
    ),
    "a fault of the server": problem(500, "internal"),
}

VERBS: dict[str, Callable[[HttpAdapter], object]] = {
    "create": lambda store: store.create(KEY, b"one"),
    "get": lambda store: store.get(KEY),
    "get_many": lambda store: list(store.get_many([KEY, f"{KEY}x"])),
    "list": lambda store: list(store.list("team/")),
    "replace": lambda store: store.replace(KEY, b"one"),
    "delete": lambda store: store.delete(KEY),
}


def fails(verb: str, response: Answer) -> AMFSError:
    with answering(lambda _: response) as url, pytest.raises(AMFSError) as caught:
        VERBS[verb](HttpAdapter(url))
    return caught.value


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("verb", VERBS)
def test_an_answer_of_another_server_is_neither_an_object_nor_an_absence(
    verb: str, name: str
) -> None:
    error = fails(verb, FOREIGN[name])
    wanted = OutcomeUnknownError if verb == "create" else BackendUnavailableError
    assert type(error) is wanted


WRONG_PAGES = {
    "of another prefix": {"objects": [{"key": "other/k", "size": 1}], "next": None},
    "out of order": {"objects": [{"key": "team/b"}, {"key": "team/a"}], "next": None},
    "of negative size": {"objects": [{"key": "team/a", "size": -1}], "next": None},
    "that goes on where it began": {"objects": [], "next": ""},
}


@pytest.mark.parametrize("name", WRONG_PAGES)
def test_a_page_that_cannot_be_is_refused(name: str) -> None:
    page = WRONG_PAGES[name]
    objects = [
        {"size": 1, "modified": "2026-01-01T00:00:00Z", **info}
        for info in page["objects"]  # type: ignore[union-attr]
    ]
    error = fails("list", answer(200, {"objects": objects, "next": page["next"]}))
    assert type(error) is BackendUnavailableError


def test_a_listing_that_repeats_its_page_ends() -> None:
    info = {"key": "team/a", "size": 1, "modified": "2026-01-01T00:00:00Z"}
    error = fails("list", answer(200, {"objects": [info], "next": "team/a"}))
    assert type(error) is BackendUnavailableError


@pytest.mark.parametrize("keys", [[], ["another"], [KEY, KEY]])
def test_objects_that_were_not_asked_for_are_refused(keys: list[str]) -> None:
    data = base64.b64encode(b"one").decode()
    bodies = [{"key": key, "data": data} for key in keys]
    assert type(fails("get_many", answer(200, {"objects": bodies}))) is BackendUnavailableError


@pytest.mark.parametrize("written", [{"key": "another", "bytes": 3}, {"key": KEY, "bytes": 2}])
def test_an_acknowledgement_of_something_else_is_none(written: dict[str, object]) -> None:
    assert type(fails("create", answer(201, written))) is OutcomeUnknownError


def test_an_object_that_is_cut_short_is_refused() -> None:
    def script(request: BaseHTTPRequestHandler) -> Answer:
        request.send_response(200)
        request.send_header("Content-Type", OBJECT["Content-Type"])
        request.send_header("Content-Length", "100")
        request.end_headers()
        request.wfile.write(b"short")
        raise ConnectionAbortedError

    with answering(script) as url, pytest.raises(BackendUnavailableError):
        HttpAdapter(url, timeout=2).get(KEY)


CODES = {
    "storage_full": StorageFullError,
    "permission_denied": PermissionDeniedError,
    "forbidden": PermissionDeniedError,
    "unauthorized": PermissionDeniedError,
    "configuration": ConfigurationError,
    "too_large": ConfigurationError,
    "backend_unavailable": BackendUnavailableError,
    "overloaded": BackendUnavailableError,
    "outcome_unknown": OutcomeUnknownError,
    "a_code_of_tomorrow": OutcomeUnknownError,
}


@pytest.mark.parametrize("code", CODES)
def test_each_problem_is_an_error_of_the_contract(code: str) -> None:
    error = fails("create", problem(503, code, hint="do this"))
    assert type(error) is CODES[code]
    assert "because" in str(error) and KEY in str(error)


NOT_ABOUT_OBJECTS = {
    *("version_conflict", "write_many", "write_outcome_unknown", "corrupt_entry"),
    *("outcome_conflict", "outcome_pending", "commit_unknown", "unknown_feature", "degraded"),
}
"""Codes of errors that the engine raises, which no request for objects goes through."""


def test_the_code_of_every_error_that_a_store_may_raise_has_a_class() -> None:
    codes = {kind.code for kind in EVERY_ERROR}
    unclear = {"error", "outcome_unknown"}
    assert codes - NOT_ABOUT_OBJECTS - unclear == codes & set(failures._CLASSES)


def test_no_redirect_is_followed_and_no_key_travels() -> None:
    elsewhere: list[str] = []

    def other(request: BaseHTTPRequestHandler) -> Answer:
        elsewhere.append(request.path)
        return answer(201, {"key": KEY, "bytes": 3})

    with answering(other) as target:
        for verb in VERBS:
            fails(verb, Answer(307, "", {"Location": f"{target}/objects/{KEY}"}))
    assert not elsewhere


def test_no_key_is_in_an_error_or_a_repr() -> None:
    def echo(request: BaseHTTPRequestHandler) -> Answer:
        return Answer(403, "no", {"Content-Type": "text/plain"})

    with answering(echo) as url:
        store = HttpAdapter(url, api_key="amfs_xyzzyplugh")
        for work in VERBS.values():
            with pytest.raises(AMFSError) as caught:
                work(store)
            assert "xyzzyplugh" not in f"{caught.value!r} {caught.value.__cause__!r}"
        assert "xyzzyplugh" not in repr(store) + store.location


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8420", "ftp://host", "http://", "http://user:secret@host", "http://a b"),
        *("http://host:0", "http://host?x=1", "http://host#x"),
    ],
)
def test_an_invalid_server_url_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HttpAdapter(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("option", ["timeout", "connect_timeout"])
@pytest.mark.parametrize("seconds", [0, -1, "5", True, float("nan"), float("inf"), 1e9])
def test_a_time_that_no_request_can_take_is_refused(option: str, seconds: object) -> None:
    with pytest.raises(ConfigurationError, match=option):
        HttpAdapter("http://host", **{option: seconds})  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "two words", "with\nline", "ключ"])
def test_a_key_that_no_header_carries_is_refused_and_not_shown(key: str) -> None:
    if not key:
        assert HttpAdapter("http://host", api_key=key)
        return
    with pytest.raises(ConfigurationError) as caught:
        HttpAdapter("http://host", api_key=key)
    assert key not in str(caught.value)


def test_nothing_listens_there_and_the_error_says_where() -> None:
    with answering(lambda _: Answer(200)) as url:
        pass
    memory = AgentMemory("a", adapter=HttpAdapter(url), patience=0.1)
    with pytest.raises(BackendUnavailableError, match=url):
        memory.read("a", "k")
