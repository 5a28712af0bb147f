"""Handlers around handlers: whatever the server asks beside requests reaches the one that answers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kaserve.handlers.middleware.base import Middleware
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.handlers.middleware.forwarded import Forwarded, Trusted
from kaserve.handlers.middleware.headers import HeaderMiddleware, Preflight
from kaserve.handlers.middleware.own_paths import OwnPaths
from kaserve.handlers.middleware.passwords import hash_password
from kaserve.handlers.mount import Mount
from kaserve.http.errors import HTTPError
from kaserve.http.messages import Request, Response
from kaserve.http.sinks import Discard, Sink, Spool

AROUND: dict[str, Callable[[Any], Any]] = {
    "Middleware": Middleware,
    "OwnPaths": lambda handler: OwnPaths(handler, {}),
    "HeaderMiddleware": lambda handler: HeaderMiddleware(handler, ()),
    "Preflight": Preflight,
    "Forwarded": lambda handler: Forwarded(handler, Trusted("127.0.0.1")),
    "Mount": lambda handler: Mount({"/": handler}),
}


class Inner:
    """A handler with every hook."""

    def __init__(self) -> None:
        self.turns = 0
        self.closed = 0

    def __call__(self, request: Request) -> Response:
        return Response.text("inner")

    def refuse(self, request: Request) -> None:
        raise HTTPError(418, "inner")

    def sink(self, request: Request) -> Sink:
        return Discard()

    def end_of_turn(self) -> None:
        self.turns += 1

    def close(self) -> None:
        self.closed += 1


def put() -> Request:
    return Request("PUT", "/a", 1, [])


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_every_hook_goes_on(around: Callable[[Any], Any]) -> None:
    inner = Inner()
    outer = around(inner)
    assert outer(put()).body == b"inner"
    with pytest.raises(HTTPError, match="inner"):
        outer.refuse(put())
    assert isinstance(outer.sink(put()), Discard)
    outer.end_of_turn()
    assert inner.turns == 1
    if hasattr(outer, "close"):
        outer.close()
        assert inner.closed == 1


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_a_function_has_none(around: Callable[[Any], Any]) -> None:
    outer = around(lambda request: Response.text("inner"))
    outer.refuse(put())
    assert isinstance(outer.sink(put()), Spool)
    outer.close()


def test_turns_are_told_only_to_whom_they_matter() -> None:
    assert not hasattr(Middleware(lambda request: Response.text("")), "end_of_turn")


def test_a_door_passes_on_turns_and_its_end() -> None:
    inner = Inner()
    door = BasicAuth(inner, {"anna": hash_password(b"secret")})
    door.end_of_turn()
    door.close()
    assert (inner.turns, inner.closed) == (1, 1)


def test_of_two_doors_the_outer_one_guards() -> None:
    users = {"anna": hash_password(b"secret")}
    inner = BasicAuth(Inner(), users, realm="inner")
    outer = Middleware(BasicAuth(Middleware(inner), users, realm="outer"))
    refused = outer.guard(Inner())(put())
    assert refused.status == 401
    assert 'realm="outer"' in refused.headers["www-authenticate"]
    outer.close()
