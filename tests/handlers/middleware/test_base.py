"""Middleware passes on every hook that it does not change itself."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kaserve.handlers.middleware.base import Middleware
from kaserve.handlers.middleware.basic_auth import BasicAuth
from kaserve.handlers.middleware.passwords import hash_password
from kaserve.http.handler import BaseHandler, FunctionHandler
from kaserve.http.messages import Request, Response
from tests.tools.hooks import respond


def put() -> Request:
    return Request("PUT", "/a", 1, [])


@FunctionHandler
def page(request: Request) -> Response:
    return Response.text("page")


def test_a_function_has_hooks_that_do_nothing() -> None:
    outer = Middleware(lambda request: Response.text("inner"))
    outer.before_body(put())
    assert outer.body_sink(put()) is None
    assert outer.protect("/status", page) is page
    outer.end_of_turn()
    outer.close()


def test_a_function_is_wrapped_once() -> None:
    handler = FunctionHandler(lambda request: Response())
    assert Middleware(handler).inner is handler
    assert isinstance(Middleware(Middleware(handler)).inner, Middleware)


def test_with_two_passwords_the_outer_one_protects_pages() -> None:
    users = {"anna": hash_password(b"secret")}
    inner = BasicAuth(lambda request: Response(), users, realm="inner")
    outer = Middleware(BasicAuth(Middleware(inner), users, realm="outer"))
    response = respond(outer.protect("/status", page), put())
    assert response.status == 401
    assert 'realm="outer"' in response.headers["www-authenticate"]
    outer.close()


@pytest.mark.parametrize(
    "hook", ["before_body", "body_sink", "attach", "detach", "end_of_turn", "protect", "make_private", "close"]
)
def test_a_hook_of_an_object_that_is_no_handler_is_an_error(hook: str) -> None:
    class Lookalike:
        def __call__(self, request: Request) -> Response:
            return Response()

    setattr(Lookalike, hook, lambda *_: None)
    with pytest.raises(TypeError, match=rf"{hook}\(\), so it must derive from kaserve\.BaseHandler"):
        Middleware(Lookalike())


def test_an_object_that_cannot_be_called_is_no_handler() -> None:
    with pytest.raises(TypeError, match="a handler must be a function or a BaseHandler, not int"):
        Middleware(cast(Any, 5))


def test_a_handler_must_define_call() -> None:
    with pytest.raises(NotImplementedError):
        BaseHandler()(put())
