"""Requests, responses, headers and errors, as handlers see them."""

from __future__ import annotations

import doctest
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import kaserve.http.messages
from kaserve.http.errors import PHRASES, HTTPError
from kaserve.http.messages import (
    CONTENT_LENGTH,
    FLAGS,
    TRANSFER_ENCODING,
    FieldLine,
    FileSpan,
    Headers,
    Request,
    Response,
    error_response,
)


def request(target: str = "/", fields: list[FieldLine] | None = None, minor: int = 1) -> Request:
    fields = fields or []
    flags = 0
    for name, _ in fields:
        flags |= FLAGS.get(name, 0)
    made = Request("GET", target, minor, fields, flags)
    made.raw_path, _, made.query = target.partition("?")
    return made


def test_the_examples_in_the_documentation() -> None:
    result = doctest.testmod(kaserve.http.messages)
    assert result.attempted > 0
    assert result.failed == 0


# Headers.


def test_headers_are_case_insensitive_and_in_order() -> None:  # RFC 9110 §5.1, §5.3
    headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
    assert headers["a"] == headers["A"] == "1"
    assert headers.get("B") == "2"
    assert headers.get_all("a") == ["1", "3"]
    assert headers.combined("A") == "1, 3"
    assert list(headers) == ["A", "b"]
    assert headers.items() == [("A", "1"), ("b", "2"), ("a", "3")]
    assert len(headers) == 3
    assert "B" in headers
    assert 1 not in headers


def test_missing_headers() -> None:
    headers = Headers()
    with pytest.raises(KeyError, match="a"):
        headers["a"]
    assert headers.get("a") is None
    assert headers.get("a", "b") == "b"
    assert headers.get_all("a") == []
    assert headers.combined("a") is None
    assert "a" not in headers
    assert list(headers) == []


def test_headers_with_an_empty_value() -> None:
    headers = Headers([("A", "")])
    assert headers["a"] == ""
    assert "a" in headers
    assert headers.combined("a") == ""


def test_headers_change_the_lines_they_are_a_view_of() -> None:
    lines = [("A", "1"), ("B", "2"), ("a", "3")]
    headers = Headers(lines)
    headers.set("a", "4")
    headers.add("C", "5")
    headers.remove("b")
    headers.remove("missing")
    assert lines == [("a", "4"), ("C", "5")]
    assert headers == Headers([("a", "4"), ("C", "5")])
    assert headers != Headers()
    assert headers != lines
    assert repr(headers) == "Headers([('a', '4'), ('C', '5')])"


def test_headers_are_mutable_and_so_have_no_hash() -> None:
    with pytest.raises(TypeError):
        hash(Headers())


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


def test_arguments() -> None:
    assert request("/?a=1&b=%20+c&a=&d").arguments == [("a", "1"), ("b", "  c"), ("a", ""), ("d", "")]
    assert request("/").arguments == []


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


def test_short_forms_accept_a_status() -> None:
    assert Response.text("", 404).status == 404
    assert Response.html("", 500).status == 500
    assert Response.json(None, 201).status == 201


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


def test_file_span_owns_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    span = FileSpan(fd, 2, 5)
    assert repr(span) == f"<FileSpan fd {fd}, 5 bytes from 2>"
    span.close()
    assert span.fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    span.close()


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
