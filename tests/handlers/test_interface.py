"""WSGI applications, ASGI applications and handlers are told apart without a call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kaserve import BaseHandler, Request, Response
from kaserve.handlers import Files
from kaserve.handlers.interface import Interface, check_interface, detect_interface

WSGI, HANDLER, ASGI = Interface.WSGI, Interface.HANDLER, Interface.ASGI


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


def wsgi_of_other_names(a: Any, b: Any) -> list[bytes]:
    return []


def wsgi_with_defaults(environ: Any = None, start_response: Any = None, more: int = 0) -> list[bytes]:
    return []


def wsgi_generator(environ: Any, start_response: Any) -> Iterator[bytes]:
    yield b""


def handler(request: Request) -> Response:
    return Response()


def handler_with_default(request: Request, name: str = "") -> Response:
    return Response()


def handler_of_another_name(r: Request, *, more: int = 0) -> Response:
    return Response()


def handler_with_more(request: Request, *more: Any) -> Response:
    return Response()


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


async def asgi_of_other_names(a: Any, b: Any, c: Any) -> None: ...


def asgi_2(scope: Any) -> Any: ...


def anything(*arguments: Any, **keywords: Any) -> Any: ...


@functools.wraps(wsgi)
def decorated(*arguments: Any) -> Any: ...


class Object:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []

    def method(self, request: Request) -> Response:
        return Response()


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Derived(BaseHandler):
    def __call__(self, request: Request) -> Response:
        return Response()


class WsgiClass:
    """The example of PEP 3333."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...

    def __iter__(self) -> Iterator[bytes]:
        yield b""


class AsgiClass:
    """The example of ASGI 2."""

    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


class NeedsArguments:
    def __init__(self, database: str) -> None: ...

    def __call__(self, request: Request) -> Response:
        return Response()


class OfAnotherServer:
    def __call__(self, request: Any) -> Any: ...


OfAnotherServer.__module__ = "tornado.web"


async def coroutine(request: Request) -> Response:
    return Response()


async def coroutine_of_two(environ: Any, start_response: Any) -> Response:
    return Response()


def generator(request: Request) -> Iterator[bytes]:
    yield b""


def factory(settings: Any = None) -> Any: ...


def of_four(a: Any, b: Any, c: Any, d: Any) -> Any: ...


def of_keywords(*, environ: Any, start_response: Any) -> Any: ...


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (wsgi, WSGI),
        (wsgi_of_other_names, WSGI),
        (wsgi_with_defaults, WSGI),
        (wsgi_generator, WSGI),
        (Object(), WSGI),
        (WsgiClass, WSGI),
        (decorated, WSGI),
        (functools.partial(of_four, 1, 2), WSGI),
        (functools.partial(Object()), WSGI),
        (lambda e, s: [], WSGI),
        (handler, HANDLER),
        (handler_with_default, HANDLER),
        (handler_of_another_name, HANDLER),
        (handler_with_more, HANDLER),
        (Object().method, HANDLER),
        (Derived(), HANDLER),
        (lambda request: Response(), HANDLER),
        (functools.partial(wsgi_of_other_names, 1), HANDLER),
        (coroutine, HANDLER),
        (functools.partial(coroutine), HANDLER),
        (asgi, ASGI),
        (asgi_of_other_names, ASGI),
        (asgi_2, ASGI),
        (AsgiObject(), ASGI),
        (AsgiObject().__call__, ASGI),
        (AsgiClass, ASGI),
        (functools.partial(asgi), ASGI),
        (functools.partial(AsgiObject()), ASGI),
        (anything, None),
        (max, None),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_told_apart(app: object, interface: Interface | None) -> None:
    assert detect_interface(app, "shop:app") is interface


def test_files(tmp_path: Any) -> None:
    files = Files(tmp_path)
    assert detect_interface(files, "shop:files") is HANDLER
    files.close()


@pytest.mark.parametrize(
    ("app", "message"),
    [
        (
            5,
            r"shop:app is of type int and cannot be called; kaserve serves what is called with \(scope, receive, send",
        ),
        ("text", "shop:app is of type str and cannot be called"),
        (factory, r"shop:app needs no arguments, so it seems to be a factory; write shop:app\(\) to serve what it"),
        (lambda: wsgi, "shop:app needs no arguments, so it seems to be a factory"),
        (Object, r"shop:app is a class; write shop:app\(\) to serve an instance of it"),
        (Derived, r"shop:app is a class; write shop:app\(\)"),
        (NeedsArguments, "shop:app is a class; make an instance of it in the module, and name that"),
        (coroutine_of_two, r"shop:app is a coroutine function \(async def\) with two arguments; an ASGI"),
        (functools.partial(coroutine_of_two), "shop:app is a coroutine function"),
        (generator, "shop:app is a generator function; a handler returns a Response, whose body may be a generator"),
        (
            of_four,
            r"shop:app has the parameters \(a: 'Any', b: 'Any', c: 'Any', d: 'Any'\) -> 'Any'; an ASGI",
        ),
        (of_keywords, "shop:app has the parameters"),
        (OfAnotherServer(), "shop:app is an application of tornado, which runs on a server of its own"),
    ],
)
def test_rejected(app: object, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}") as caught:
        detect_interface(app, "shop:app")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (wsgi, WSGI),
        (asgi_2, ASGI),
        (AsgiClass, ASGI),
        (coroutine, HANDLER),
        (anything, WSGI),
        (anything, HANDLER),
        (max, WSGI),
        (Derived(), HANDLER),
        (handler_with_default, WSGI),
    ],
)
def test_what_the_user_says_is_believed(app: object, interface: Interface) -> None:
    """`handler_with_default` can be called with two arguments, so it may be an application."""
    check_interface(app, interface, "shop:app")


def test_three_arguments_make_an_asgi_application() -> None:
    def three(a: object, b: object, c: object) -> None: ...

    assert detect_interface(three, "odd:three") is ASGI
    with pytest.raises(TypeError, match=r"^odd:three is called with \(scope, receive, send\), as an ASGI application"):
        check_interface(three, HANDLER, "odd:three")


@pytest.mark.parametrize(
    ("app", "interface", "message"),
    [
        (
            handler,
            WSGI,
            r"is called with \(request\), as a handler is, "
            r"and not with \(environ, start_response\), as a WSGI application is",
        ),
        (wsgi, HANDLER, r"is called with \(environ, start_response\), as a WSGI application is"),
        (asgi, WSGI, r"is called with \(scope, receive, send\), as an ASGI application is"),
        (asgi, HANDLER, r"is called with \(scope, receive, send\), as an ASGI application is"),
        (wsgi, ASGI, r"is called with \(environ, start_response\), as a WSGI application is"),
        (coroutine, WSGI, r"is called with \(request\), as a handler is"),
        (factory, WSGI, "needs no arguments, so it seems to be a factory"),
        (5, WSGI, "is of type int"),
    ],
)
def test_unless_the_call_would_certainly_fail(app: object, interface: Interface, message: str) -> None:
    with pytest.raises(TypeError, match=f"^shop:app {message}"):
        check_interface(app, interface, "shop:app")


def _flask() -> object:
    return pytest.importorskip("flask").Flask("shop")


def _django() -> object:
    return pytest.importorskip("django.core.handlers.wsgi").WSGIHandler.__new__(
        pytest.importorskip("django.core.handlers.wsgi").WSGIHandler
    )


def _django_asgi() -> object:
    module = pytest.importorskip("django.core.handlers.asgi")
    return module.ASGIHandler.__new__(module.ASGIHandler)


def _falcon() -> object:
    return pytest.importorskip("falcon").App()


def _falcon_asgi() -> object:
    return pytest.importorskip("falcon.asgi").App()


def _bottle() -> object:
    return pytest.importorskip("bottle").Bottle()


def _starlette() -> object:
    return pytest.importorskip("starlette.applications").Starlette()


def _fastapi() -> object:
    return pytest.importorskip("fastapi").FastAPI()


@pytest.mark.parametrize(
    ("make", "interface"),
    [
        (_flask, WSGI),
        (_django, WSGI),
        (_falcon, WSGI),
        (_bottle, WSGI),
        (_django_asgi, ASGI),
        (_falcon_asgi, ASGI),
        (_starlette, ASGI),
        (_fastapi, ASGI),
    ],
)
def test_frameworks(make: Callable[[], object], interface: Interface) -> None:
    assert detect_interface(make(), "shop:app") is interface
