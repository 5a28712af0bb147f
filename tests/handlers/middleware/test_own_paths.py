"""Paths in front of a handler."""

from __future__ import annotations

import pytest

from kaserve import HTTPError, Request, Response
from kaserve.handlers.middleware.own_paths import OwnPaths
from kaserve.http.sinks import Discard, Sink, Spool
from tests.tools.server import connect, echo, hello, post, serving


def ours(request: Request) -> Response:
    return Response.text("ours")


class Picky:
    """A handler with all the hooks."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = []

    def __call__(self, request: Request) -> Response:
        return Response.text("picky")

    def refuse(self, request: Request) -> None:
        raise HTTPError(413, "no")

    def sink(self, request: Request) -> Sink:
        self.sinks.append(Spool())
        return self.sinks[-1]


def ask(target: str) -> Request:
    request = Request("POST", target, 1, [])
    request.raw_path, _, request.query = target.partition("?")
    return request


@pytest.mark.parametrize(
    ("target", "is_ours"),
    [("/-/status", True), ("/-/status?json", True), ("/-/status/", False), ("/-/%73tatus", False), ("/", False)],
)
def test_who_answers(target: str, is_ours: bool) -> None:
    response = OwnPaths(hello, {"/-/status": ours})(ask(target))
    assert isinstance(response, Response)
    assert response.body == (b"ours" if is_ours else b"hello")


def test_the_hooks_of_the_handler_are_for_its_own_paths() -> None:
    picky = Picky()
    aside = OwnPaths(picky, {"/s": ours})
    aside.refuse(ask("/s"))
    assert isinstance(aside.sink(ask("/s")), Discard)
    assert picky.sinks == []
    with pytest.raises(HTTPError):
        aside.refuse(ask("/"))
    assert aside.sink(ask("/")) is picky.sinks[0]


def test_a_handler_without_hooks() -> None:
    aside = OwnPaths(hello, {"/s": ours})
    aside.refuse(ask("/"))
    assert isinstance(aside.sink(ask("/")), Spool)


def test_on_a_server() -> None:
    with serving(OwnPaths(echo, {"/s": ours})) as server, connect(server) as client:
        answers = client.exchange(post(b"hello"), post(b"unread", target="/s"), post(b"again"))
        assert [answer.body for answer in answers] == [b"hello", b"ours", b"again"]
