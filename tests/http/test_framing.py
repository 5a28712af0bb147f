"""Where a message ends and whether the connection persists: each decision as a table, in addition to the corpus."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kaserve.http.errors import HTTPError
from kaserve.http.file_span import FileSpan
from kaserve.http.framing import (
    CHUNKED,
    NO_LENGTH,
    UNTIL_CLOSE,
    allowed_trailers,
    check_expectation,
    has_content,
    persists,
    request_framing,
    response_framing,
)
from kaserve.http.headers import FieldLine
from kaserve.http.messages import Request, Response
from kaserve.http.wire import parse_head


def request(*lines: str, method: str = "GET", minor: int = 1) -> Request:
    head = "\r\n".join([f"{method} / HTTP/1.{minor}", "Host: h", *lines, ""]).encode("latin-1")
    return parse_head(head, 0, len(head))


GET, HEAD, OLD = request(), request(method="HEAD"), request(minor=0)


# request_framing: RFC 9112 §6.3, for requests.


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([], 0),  # step 7
        (["Content-Length: 5"], 5),  # step 6
        (["Content-Length: 0"], 0),
        (["Content-Length: 0010"], 10),
        (["Content-Length: 9999999999999999999"], 9999999999999999999),
        (["Transfer-Encoding: chunked"], CHUNKED),  # step 4
        (["Transfer-Encoding: Chunked", "Content-Length: 5"], CHUNKED),  # step 3
        (["Content-Length: x", "Transfer-Encoding: chunked"], CHUNKED),
    ],
)
def test_the_length_of_a_request(lines: list[str], length: int) -> None:
    for minor in (0, 1):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            assert request_framing(request(*lines, method=method, minor=minor)) == length


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Content-Length: +5"], 400),
        (["Content-Length: 5", "Content-Length: 5"], 400),
        (["Content-Length: 10000000000000000000"], 413),
        (["Transfer-Encoding:"], 400),
        (["Transfer-Encoding: chunked, chunked"], 400),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: gzip"], 400),
        (["Transfer-Encoding: gzip, chunked"], 501),
        (["Transfer-Encoding: gzip", "Content-Length: 5"], 501),
    ],
)
def test_a_request_whose_length_is_ambiguous(lines: list[str], status: int) -> None:
    with pytest.raises(HTTPError) as caught:
        request_framing(request(*lines))
    assert caught.value.status == status


# check_expectation: RFC 9110 §10.1.1.


@pytest.mark.parametrize(
    ("lines", "minor", "waits"),
    [
        ([], 1, False),
        (["Expect: 100-continue"], 1, True),
        (["Expect: 100-CONTINUE"], 1, True),
        (["Expect: 100-continue", "Expect: 100-continue"], 1, True),
        (["Expect:"], 1, False),
        (["Expect: ,"], 1, False),
        (["Expect: 100-continue"], 0, False),
        (["Expect: nonsense"], 0, False),
    ],
)
def test_expectations(lines: list[str], minor: int, waits: bool) -> None:
    assert check_expectation(request(*lines, minor=minor)) is waits


@pytest.mark.parametrize("value", ["x", "100-continue, x", "100", "100-continue;q=1", "\xa0100-continue"])
def test_an_unsupported_expectation(value: str) -> None:
    with pytest.raises(HTTPError) as caught:
        check_expectation(request(f"Expect: {value}"))
    assert caught.value.status == 417


# response_framing: RFC 9112 §6.3, for responses.


def span(length: int) -> FileSpan:
    return FileSpan(-1, 0, length)


def pieces() -> Iterable[bytes]:
    return iter([b"hello"])


def length_of(to: Request | None, response: Response) -> int:
    sends_content = has_content(response.status, to is HEAD)
    return response_framing(response, "content-length" in response.headers, sends_content, to is None or to is OLD)


FIVE: list[FieldLine] = [("Content-Length", "5")]


@pytest.mark.parametrize(
    ("to", "status", "fields", "length"),
    [
        (GET, 200, [], 5),
        (GET, 200, FIVE, 5),
        (GET, 404, [], 5),
        (None, 400, [], 5),
        (OLD, 200, [], 5),
        (HEAD, 200, [], 5),  # what GET would get
        (HEAD, 200, [("Content-Length", "7")], 7),
        (HEAD, 404, [], 5),
        (GET, 204, [], NO_LENGTH),  # RFC 9110 §8.6
        (GET, 204, FIVE, NO_LENGTH),
        (HEAD, 204, FIVE, NO_LENGTH),
        (GET, 304, [], NO_LENGTH),
        (GET, 304, FIVE, 5),
        (HEAD, 304, [], NO_LENGTH),
        (HEAD, 304, FIVE, 5),
    ],
)
def test_the_framing_of_a_response_whose_length_is_known(
    to: Request | None, status: int, fields: list[FieldLine], length: int
) -> None:
    assert length_of(to, Response(status, b"hello", fields)) == length
    assert length_of(to, Response(status, span(5), fields)) == length


@pytest.mark.parametrize(
    ("to", "status", "fields", "length"),
    [
        (GET, 200, [], CHUNKED),
        (GET, 200, FIVE, 5),
        (OLD, 200, [], UNTIL_CLOSE),
        (OLD, 200, FIVE, 5),
        (None, 400, [], UNTIL_CLOSE),
        (None, 400, FIVE, 5),
        (HEAD, 200, [], NO_LENGTH),
        (HEAD, 200, FIVE, 5),
        (GET, 204, [], NO_LENGTH),
        (GET, 304, [], NO_LENGTH),
    ],
)
def test_the_framing_of_a_response_whose_length_is_unknown(
    to: Request | None, status: int, fields: list[FieldLine], length: int
) -> None:
    assert length_of(to, Response(status, pieces(), fields)) == length


@pytest.mark.parametrize("body", [b"hello", span(5)])
@pytest.mark.parametrize("declared", ["4", "6", "0", "", "+5", "5.0", "0_5", " 5", "five", "٥", "5,5"])
def test_a_content_length_that_differs_from_the_body_is_an_error(body: bytes | FileSpan, declared: str) -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        length_of(GET, Response(200, body, [("Content-Length", declared)]))


def test_two_content_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        length_of(GET, Response(200, b"hello", FIVE + FIVE))


@pytest.mark.parametrize("declared", ["", "-1", "x", "0x5", "9223372036854775808"])
def test_a_malformed_content_length_is_an_error_even_without_content(declared: str) -> None:
    for to, body in ((HEAD, b""), (GET, pieces())):
        with pytest.raises(ValueError, match="Content-Length"):
            length_of(to, Response(200, body, [("Content-Length", declared)]))


@pytest.mark.parametrize(
    ("status", "head_only", "expected"),
    [
        (200, False, True),
        (400, False, True),
        (200, True, False),
        (204, False, False),
        (304, False, False),
        (205, False, False),
    ],
)
def test_which_responses_have_content(status: int, head_only: bool, expected: bool) -> None:  # RFC 9110 §6.4.1
    assert has_content(status, head_only) is expected


# persists: RFC 9112 §9.3.


@pytest.mark.parametrize(
    ("lines", "old", "new"),
    [
        ([], False, True),
        (["Connection: keep-alive"], True, True),
        (["Connection: Keep-Alive"], True, True),
        (["Connection: close"], False, False),
        (["Connection: CLOSE"], False, False),
        (["Connection: keep-alive, close"], False, False),
        (["Connection: close", "Connection: keep-alive"], False, False),
        (["Connection: x"], False, True),
        (["Keep-Alive: timeout=5"], False, True),
        (["Transfer-Encoding: chunked"], False, True),
        (["Transfer-Encoding: chunked", "Connection: keep-alive"], False, True),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], False, False),
        (["Content-Length: 5", "Connection: keep-alive", "Transfer-Encoding: chunked"], False, False),
        (["Content-Length: 5", "Connection: keep-alive"], True, True),
    ],
)
def test_persistence(lines: list[str], old: bool, new: bool) -> None:
    for minor, expected in ((0, old), (1, new)):
        asked = request(*lines, minor=minor)
        for length in (0, 5, CHUNKED, NO_LENGTH):
            assert persists(asked, length, True) is expected
            assert persists(asked, length, False) is False
        assert persists(asked, UNTIL_CLOSE, True) is False


def test_an_unreadable_request_ends_the_connection() -> None:
    assert persists(None, 5, True) is False


# allowed_trailers: RFC 9110 §6.5.1.


def test_allowed_trailers() -> None:
    lines = [("x-sum", "1"), ("etag", '"a"'), ("digest", "b"), ("server-timing", "c"), ("x-sum", "2")]
    assert allowed_trailers(lines) == lines
    assert allowed_trailers([]) == []
    assert allowed_trailers([("Set-Cookie", "a=b"), ("ETag", "x")]) == [("ETag", "x")]


@pytest.mark.parametrize(
    "name",
    "transfer-encoding content-length host trailer connection keep-alive te upgrade expect authorization cookie "
    "set-cookie content-type content-encoding content-range cache-control max-forwards if-match range".split(),
)
def test_forbidden_trailers(name: str) -> None:
    assert allowed_trailers([("a", "1"), (name, "x"), ("b", "2")]) == [("a", "1"), ("b", "2")]
