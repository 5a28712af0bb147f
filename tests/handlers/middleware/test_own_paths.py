"""OwnPaths: pages of the server in front of a handler."""

from __future__ import annotations

import pytest

from kaserve import HTTPError, Request, Response
from kaserve.handlers.middleware.own_paths import OwnPaths
from kaserve.http.handler import BaseHandler, FunctionHandler
from kaserve.http.sinks import Sink, Spool
from tests.tools.server import connect, echo, hello, post, serving


@FunctionHandler
def ours(request: Request) -> Response:
    return Response.text("ours")


class Picky(BaseHandler):
    """A handler with the hooks for bodies."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = []

    def __call__(self, request: Request) -> Response:
        return Response.text("picky")

    def before_body(self, request: Request) -> None:
        raise HTTPError(413, "no")

    def body_sink(self, request: Request) -> Sink:
        self.sinks.append(Spool())
        return self.sinks[-1]


def ask(target: str) -> Request:
    request = Request("POST", target, 1, [])
    request.raw_path, _, request.query_string = target.partition("?")
    return request


@pytest.mark.parametrize(
    ("target", "is_ours"),
    [("/-/status", True), ("/-/status?json", True), ("/-/status/", False), ("/-/%73tatus", False), ("/", False)],
)
def test_which_handler_responds(target: str, is_ours: bool) -> None:
    response = OwnPaths(hello, {"/-/status": ours})(ask(target))
    assert isinstance(response, Response)
    assert response.body == (b"ours" if is_ours else b"hello")


def test_hooks_go_to_the_page_or_to_the_handler() -> None:
    picky, page = Picky(), Picky()
    own_paths = OwnPaths(picky, {"/s": page, "/t": ours})
    for target, sinks in (("/s", page.sinks), ("/", picky.sinks)):
        with pytest.raises(HTTPError):
            own_paths.before_body(ask(target))
        assert own_paths.body_sink(ask(target)) is sinks[0]
    own_paths.before_body(ask("/t"))
    assert own_paths.body_sink(ask("/t")) is None
    assert (len(picky.sinks), len(page.sinks)) == (1, 1)


def test_a_handler_without_hooks() -> None:
    aside = OwnPaths(hello, {"/s": ours})
    aside.before_body(ask("/"))
    assert aside.body_sink(ask("/")) is None


def test_on_a_server() -> None:
    with serving(OwnPaths(echo, {"/s": ours})) as server, connect(server) as client:
        responses = client.exchange(post(b"hello"), post(b"unread", target="/s"), post(b"again"))
        assert [response.body for response in responses] == [b"hello", b"ours", b"again"]
