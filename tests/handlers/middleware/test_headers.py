"""Headers that the user adds: which are accepted, and the middleware that adds them."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.handlers.middleware.headers import HeaderMiddleware, parse_header
from kaserve.http.errors import HTTPError
from kaserve.http.handler import BaseHandler, FunctionHandler, HandlerResult
from kaserve.http.headers import FieldLine
from kaserve.http.messages import Request, Response
from kaserve.http.wire import encode_head
from tests.tools.files import parse


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("X-Mine: 1", ("X-Mine", "1")),
            ("X-Mine:1", ("X-Mine", "1")),
            ("x-mine: \t a: b \t", ("x-mine", "a: b")),
            ("X-Empty:", ("X-Empty", "")),
            ("X-Latin: caf\xe9", ("X-Latin", "caf\xe9")),
            ("Cache-Control: no-store", ("Cache-Control", "no-store")),
            ("Vary: Origin", ("Vary", "Origin")),
            ("Accept-Encoding: gzip", ("Accept-Encoding", "gzip")),  # RFC 9110 §12.5.3
        ],
    )
    def test_valid_headers(self, text: str, line: FieldLine) -> None:
        assert parse_header(text) == line

    @pytest.mark.parametrize(
        "text",
        ["", "X", ":", ": 1", "X Y: 1", "X : 1", "X\n: 1", "X: a\r\nY: b", "X: a\nb", "X: a\0", "X: \u20ac", "\xc9: 1"],
        ids=ascii,
    )
    def test_malformed_headers(self, text: str) -> None:
        with pytest.raises(ValueError, match="must be NAME:VALUE"):
            parse_header(text)

    @pytest.mark.parametrize(
        "name",
        """
        Content-Length transfer-encoding CONNECTION Keep-Alive Upgrade TE Trailer Date Content-Type Content-Range ETag
        Last-Modified Host
        """.split(),
    )
    def test_headers_that_each_response_sets_itself(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"must not set {name}"):
            parse_header(f"{name}: 1")

    @given(st.text(max_size=20))
    def test_every_accepted_header_can_be_sent(self, text: str) -> None:
        try:
            line = parse_header(text)
        except ValueError:
            return
        encode_head([line])


def _just(awaited: Future[Response], request: Request) -> Future[Response]:
    return awaited


LINES = (("X-Mine", "1"), ("X-Other", "2"))


class TestHeaderMiddleware:
    """In front of a handler that does not know of it."""

    @staticmethod
    def lines(response: Any) -> list[FieldLine]:
        assert isinstance(response, Response)
        return response.fields

    def test_a_response(self) -> None:
        handler = HeaderMiddleware(lambda request: Response(200, b"", [("x-mine", "own")]), LINES)
        assert self.lines(handler(parse("/"))) == [("x-mine", "own"), ("X-Other", "2")]

    def test_an_error(self) -> None:
        class Rejecting(BaseHandler):
            def __call__(self, request: Request) -> HandlerResult:
                raise HTTPError(418, "no", (("X-Why", "0"),))

            def before_body(self, request: Request) -> None:
                self(request)

            def body_sink(self, request: Request) -> None:
                self(request)

        handler = HeaderMiddleware(Rejecting(), LINES)
        for call in (handler, handler.before_body, handler.body_sink):
            with pytest.raises(HTTPError) as caught:
                call(parse("/"))
            assert (caught.value.status, caught.value.headers) == (418, (("X-Why", "0"), *LINES))

    def test_hooks(self) -> None:
        handler = HeaderMiddleware(lambda request: Response(), LINES)
        handler.before_body(parse("/"))
        assert handler.body_sink(parse("/")) is None

    def test_a_response_that_comes_later(self) -> None:
        awaited: Future[Response] = Future()
        result = HeaderMiddleware(lambda request: awaited, LINES)(parse("/"))
        assert isinstance(result, Future)
        assert not result.done()
        awaited.set_result(Response())
        assert self.lines(result.result(0)) == list(LINES)

    def test_an_error_that_comes_later(self) -> None:
        for error in (KeyError("x"), HTTPError(503, "later")):
            awaited: Future[Response] = Future()
            result = HeaderMiddleware(FunctionHandler(partial(_just, awaited)), LINES)(parse("/"))
            assert isinstance(result, Future)
            awaited.set_exception(error)
            with pytest.raises(type(error)) as raised:
                result.result(0)
            if isinstance(raised.value, HTTPError):
                assert raised.value.headers == LINES

    def test_a_response_that_comes_after_the_client_has_left(self) -> None:
        pending: Future[Response] = Future()
        result = HeaderMiddleware(lambda request: pending, LINES)(parse("/"))
        assert isinstance(result, Future)
        result.cancel()
        assert pending.cancelled()
        closed = []
        running: Future[Response] = Future()
        running.set_running_or_notify_cancel()
        result = HeaderMiddleware(lambda request: running, LINES)(parse("/"))
        assert isinstance(result, Future)
        result.cancel()
        response = Response()
        response.body = type("Body", (), {"close": lambda self: closed.append(1), "__iter__": lambda self: iter(())})()
        running.set_result(response)
        assert closed == [1]
