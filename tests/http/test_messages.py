"""Requests, responses and errors, as handlers see them."""

from __future__ import annotations

import doctest
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kaserve.http.messages
from kaserve.http.errors import PHRASES, HTTPError
from kaserve.http.headers import CONTENT_LENGTH, FLAGS, TRANSFER_ENCODING, FieldLine, Headers
from kaserve.http.messages import Request, Response, error_response
from tests.tools.ids import readable


def request(target: str = "/", fields: list[FieldLine] | None = None, minor: int = 1) -> Request:
    fields = fields or []
    flags = 0
    for name, _ in fields:
        flags |= FLAGS.get(name, 0)
    made = Request("GET", target, minor, fields, flags)
    made.raw_path, _, made.query_string = target.partition("?")
    return made


def test_the_examples_in_the_documentation() -> None:
    result = doctest.testmod(kaserve.http.messages)
    assert result.attempted > 0
    assert result.failed == 0


# Request.


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a", "/a"),
        ("/a%20b?c", "/a b"),
        ("/caf%C3%A9", "/café"),
        ("/%2541", "/%41"),  # once, and not twice
        ("/%2F%2e%2E", "/" + "/.."),
        ("/a+b", "/a+b"),  # a plus is a space in forms only
        ("/%E9", "/\udce9"),  # not UTF-8: PEP 383
        ("/%zz%4", "/%zz%4"),
        ("*", "*"),
    ],
)
def test_path(target: str, path: str) -> None:
    assert request(target).path == path


def test_query() -> None:
    """The URL standard, §5.1."""
    query = request("/?a=1&b=%20+c&a=&d&caf%C3%A9=%FF").query
    assert query.multi_items() == [("a", "1"), ("b", "  c"), ("a", ""), ("d", ""), ("café", "\ufffd")]
    assert (query["a"], query.get_all("a"), query.get("x")) == ("1", ["1", ""], None)
    assert request("/").query == {}


def test_the_query_is_parsed_once_for_each_query_string() -> None:
    made = request("/?a=1")
    assert made.query is made.query
    made.query_string = "a=2"  # as a middleware may
    assert made.query["a"] == "2"


def test_cookies() -> None:
    """RFC 6265 §4.2; there may be several lines (RFC 9113 §8.2.3)."""
    made = request(fields=[("cookie", "a=1; b=2"), ("x", "y"), ("cookie", "a=3")])
    assert made.cookies.multi_items() == [("a", "1"), ("b", "2"), ("a", "3")]
    assert made.cookies is made.cookies
    made.fields.append(("cookie", "c=4"))
    assert made.cookies["c"] == "4"
    assert request().cookies == {}


def with_body(body: bytes, content_type: str = "") -> Request:
    made = request(fields=[("content-type", content_type)] if content_type else [])
    made.body = io.BytesIO(body)
    return made


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param('{"a": ["é", 1.5, null]}'.encode(), "application/json", id="utf-8"),
        pytest.param('\ufeff{"a": ["é", 1.5, null]}'.encode(), "application/json", id="byte-order-mark"),
        pytest.param('{"a": ["é", 1.5, null]}'.encode(), "application/json; charset=iso-8859-1", id="charset"),
        pytest.param(b'{"a": ["\\u00e9", 15e-1, null]}\r\n', "", id="no-type"),
    ],
)
def test_json(body: bytes, content_type: str) -> None:
    """RFC 8259 §8.1, §11: UTF-8, whatever the Content-Type says."""
    made = with_body(body, content_type)
    assert made.json() == made.json() == {"a": ["é", 1.5, None]}
    assert made.body.read() == body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty, but must be JSON"),
        (b"{", "the body is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        (b'{\n"a": b}', "the body is not JSON: Expecting value at line 2, column 6"),
        (b'"\xe9"', "the body is not JSON: byte 1 is not UTF-8"),
        ('"é"'.encode("utf-16"), "the body is not JSON: byte 0 is not UTF-8"),
        (b"[NaN]", "the body has a value that is not accepted: NaN is not JSON"),
        (b"-Infinity", "the body has a value that is not accepted: -Infinity is not JSON"),
        (b"[" * 100_000, "the body is nested too deeply"),
    ],
    ids=readable,
)
def test_bodies_that_are_not_json(body: bytes, reason: str) -> None:
    with pytest.raises(HTTPError) as caught:
        with_body(body).json()
    assert (caught.value.status, caught.value.reason) == (400, reason)


def test_a_number_with_very_many_digits_is_not_accepted() -> None:
    with pytest.raises(HTTPError, match=r"400.*a value that is not accepted"):
        with_body(b"1" * 10_000).json()


def test_large_json() -> None:
    assert with_body(b"12345").json(max_size=5) == 12345
    with pytest.raises(HTTPError, match="413"):
        with_body(b"123456").json(max_size=5)
    with pytest.raises(HTTPError, match="413"):
        with_body(b" " * (1 << 20) + b"1").json()


def test_form() -> None:
    assert with_body(b"a=1&b=+&a=2", "application/x-www-form-urlencoded").form().multi_items() == [
        ("a", "1"), ("b", " "), ("a", "2"),
    ]  # fmt: skip
    with pytest.raises(HTTPError, match="415"):
        request().form()


def test_version() -> None:
    assert request().http_version == "HTTP/1.1"
    assert request(minor=0).http_version == "HTTP/1.0"


def test_a_request_without_a_body_has_an_empty_one() -> None:
    empty = request()
    assert empty.body.read() == b""
    empty.body = io.BytesIO(b"hello")
    body = empty.body
    assert body.read() == b"hello"
    empty.close()
    assert body.closed
    empty.close()


def test_content_length() -> None:  # RFC 9110 §8.6
    assert request().content_length is None
    assert request(fields=[("content-length", "5")]).content_length == 5
    assert request(fields=[("content-length", "005")]).content_length == 5
    assert request(fields=[("content-length", "0")]).content_length == 0
    assert request(fields=[("content-length", "0" * 5000)]).content_length == 0


def test_transfer_encoding_overrides_content_length() -> None:  # RFC 9112 §6.3 step 3
    both = request(fields=[("transfer-encoding", "chunked"), ("content-length", "5")])
    assert both.flags == TRANSFER_ENCODING | CONTENT_LENGTH
    assert both.content_length is None


def test_a_handler_may_require_a_length() -> None:  # RFC 9110 §15.5.12
    assert request(fields=[("content-length", "5")]).require_length() == 5
    with pytest.raises(HTTPError) as caught:
        request().require_length()
    assert caught.value.status == 411


def test_repr_of_a_request() -> None:
    assert repr(request("/a?b")) == "<Request GET /a?b HTTP/1.1>"


# Response.


def test_response_defaults() -> None:
    response = Response()
    assert (response.status, response.body, response.fields) == (200, b"", [])
    assert repr(response) == "<Response 200>"
    response.close()


def test_headers_of_a_response_are_copied_from_pairs_or_a_dict() -> None:
    given: list[FieldLine] = [("A", "1"), ("A", "2")]
    response = Response(200, b"", given)
    response.headers.add("B", "3")
    assert given == [("A", "1"), ("A", "2")]
    assert response.fields == [("A", "1"), ("A", "2"), ("B", "3")]
    assert Response(200, b"", {"A": "1"}).fields == [("A", "1")]
    assert Response(200, b"", Headers(given)).fields == given


@pytest.mark.parametrize(
    ("response", "content_type", "body"),
    [
        (Response.text("café"), "text/plain; charset=utf-8", "café".encode()),
        (Response.html("<p>é"), "text/html; charset=utf-8", "<p>é".encode()),
        (Response.json({"a": ["é", None]}), "application/json", '{"a":["é",null]}'.encode()),
    ],
)
def test_short_forms_of_a_response(response: Response, content_type: str, body: bytes) -> None:
    assert response.status == 200
    assert response.headers["content-type"] == content_type
    assert response.body == body


@pytest.mark.parametrize("make", [Response.text, Response.html, Response.json])
def test_short_forms_accept_a_status_and_headers(make: Callable[..., Response]) -> None:
    assert make("", 404).status == make("", status=404).status == 404
    assert [name for name, _ in make("", headers={"X": "1"}).fields] == ["Content-Type", "X"]
    cookies = Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    assert make("", 200, cookies).headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert make("", headers=iter([("X", "1")])).headers["x"] == "1"
    assert make("", headers=[("content-type", "text/x")]).fields == [("content-type", "text/x")]


def test_a_subclass_is_made_by_its_own_constructor() -> None:
    class Marked(Response):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.headers["X-Marked"] = "1"

    marked = Marked.json(1, 201, {"X": "1"})
    assert type(marked) is Marked
    assert marked.fields == [("Content-Type", "application/json"), ("X", "1"), ("X-Marked", "1")]


def test_redirect_with_headers() -> None:
    assert Response.redirect("/a", headers={"X": "1"}).fields == [("Location", "/a"), ("X", "1")]


def test_set_and_delete_cookies() -> None:  # RFC 6265 §4.1
    response = Response()
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", max_age=60, path=None, domain="example.org", secure=True, http_only=False)
    response.delete_cookie("c", path="/x")
    assert response.headers.get_all("set-cookie") == [
        "a=1; HttpOnly; Path=/; SameSite=Lax",
        "b=2; Domain=example.org; Max-Age=60; SameSite=Lax; Secure",
        'c=""; Max-Age=0; Path=/x; Expires=Thu, 01 Jan 1970 00:00:00 GMT',
    ]
    with pytest.raises(ValueError, match="must not contain control characters"):
        response.set_cookie("a", "1\r\nX: y")
    assert len(response.fields) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes"])
def test_values_that_json_does_not_have(value: object) -> None:  # RFC 8259
    with pytest.raises((ValueError, TypeError)):
        Response.json(value)


def test_redirect() -> None:  # RFC 9110 §15.4
    assert Response.redirect("/a").status == 303
    assert Response.redirect("/a", 308).status == 308
    assert Response.redirect("/a").headers["location"] == "/a"


@pytest.mark.parametrize(
    ("location", "field"),
    [
        ("https://u@[::1]:8/a;b,c/~d%20e?f=g&h='(i)*+!$#j", "https://u@[::1]:8/a;b,c/~d%20e?f=g&h='(i)*+!$#j"),
        ("/caf\xe9 \u2603", "/caf%C3%A9%20%E2%98%83"),
        ('/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("/\r\nSet-Cookie: a=b\0", "/%0D%0ASet-Cookie:%20a=b%00"),
    ],
)
def test_redirect_to_what_a_uri_cannot_contain(location: str, field: str) -> None:  # RFC 3987 §3.1, RFC 3986 §2.1
    assert Response.redirect(location).headers["location"] == field


def test_a_closed_response_closes_its_body() -> None:
    class Pieces:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            return iter(())

        def close(self) -> None:
            self.closed += 1

    body = Pieces()
    Response(200, body).close()
    assert body.closed == 1
    Response(200, [b"a list has no close"]).close()


# Errors.


def test_error_response() -> None:
    response = error_response(HTTPError(405, "no such thing", (("Allow", "GET"),)))
    assert response.status == 405
    assert response.body == b"405 Method Not Allowed: no such thing\n"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["allow"] == "GET"  # RFC 9110 §15.5.6
    assert "connection" not in response.headers
    assert error_response(HTTPError(403, "no", close=True)).headers["connection"] == "close"


def test_text_of_an_error() -> None:
    assert str(HTTPError(400, "why")) == "400 Bad Request: why"
    assert error_response(HTTPError(499, "why")).body == b"499 Error: why\n"


def test_phrases() -> None:  # RFC 9110 §15
    assert PHRASES[413] == "Content Too Large"
    assert PHRASES[414] == "URI Too Long"
    assert PHRASES[416] == "Range Not Satisfiable"
    assert PHRASES[422] == "Unprocessable Content"
    assert PHRASES[431] == "Request Header Fields Too Large"  # RFC 6585 §5
    for phrase in PHRASES.values():
        phrase.encode("ascii")
