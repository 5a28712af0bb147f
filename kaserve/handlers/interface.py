"""Tells WSGI applications, ASGI applications and handlers apart, by their signature and without a call.

Knows how each of the three is called: a WSGI application with (environ, start_response), an ASGI application with
(scope, receive, send), a handler with (request). Does not know where the object comes from, nor what runs it.

A mistake that is not found here becomes a 500 for every request: an ASGI application that is called as WSGI, a factory
that nobody has called. So whatever certainly fails is a TypeError at the start.
"""

from __future__ import annotations

import enum
import functools
import inspect
from typing import Any

from ..http.handler import BaseHandler

__all__ = ["Interface", "check_interface", "detect_interface"]


class Interface(enum.Enum):
    """How an object is called for a request. The value is a phrase for messages."""

    WSGI = "a WSGI application"
    HANDLER = "a handler"
    ASGI = "an ASGI application"

    @property
    def arguments(self) -> str:
        """What it is called with, as a user writes it."""
        return _ARGUMENTS[self]


_ARGUMENTS = {
    Interface.WSGI: "(environ, start_response)",
    Interface.HANDLER: "(request)",
    Interface.ASGI: "(scope, receive, send)",
}
_BY_COUNT = {1: Interface.HANDLER, 2: Interface.WSGI, 3: Interface.ASGI}  # by number of arguments

# The names that documentation and frameworks use. They decide where the number of arguments does not: for parameters
# with defaults, and for a function in a decorator that accepts anything.
_ENVIRON = {"environ", "env", "wsgi_environ"}
_REQUEST = {"request", "req"}

_OWN_SERVERS = {"aiohttp", "sanic", "tornado"}  # frameworks whose applications are neither, though they can be called


def detect_interface(app: object, name: str) -> Interface | None:
    """Returns how `app` is to be called; None if its signature does not tell.

    Args:
        app: what to serve.
        name: what the user calls it, for messages: `shop:app`.

    Raises:
        TypeError: it is certainly none of the three. The message is one line that says what to do.
    """
    if isinstance(app, BaseHandler):
        return Interface.HANDLER
    _check_callable(app, name)
    if inspect.isclass(app):
        return _detect_class(app, name)
    signature = _signature(app)
    interface = None if signature is None else _of_names(signature)
    if interface is None and _is_async(app) and signature is not None and _accepts(signature, 3):
        return Interface.ASGI
    if interface is None and signature is not None:
        interface = _of_count(signature, name)
    if interface is Interface.WSGI and _is_async(app):
        raise _coroutine_function(name)
    if interface is Interface.HANDLER and _is_generator(app):
        raise TypeError(
            f"{name} is a generator function; a handler returns a Response, whose body may be a generator: "
            "Response(200, pieces())"
        )
    return interface


def check_interface(app: object, interface: Interface, name: str) -> None:
    """Checks that `app` can be called as `interface`, for a user who says which one it is.

    Args:
        app: what to serve.
        interface: how it will be called.
        name: what the user calls it, for messages.

    Raises:
        TypeError: the call would certainly fail. The message is one line that says what to do.
    """
    if interface is Interface.HANDLER and isinstance(app, BaseHandler):
        return
    _check_callable(app, name)
    signature = _signature(app)
    if interface is Interface.ASGI and _is_asgi_2(app, signature):
        return
    if (interface is Interface.WSGI and _is_async(app)) or (
        signature is not None and not _accepts(signature, len(_names_of(interface)))
    ):
        detected = detect_interface(app, name)  # may have a better message
        if detected is None or detected is interface:
            raise TypeError(f"{name} cannot be called with {interface.arguments}, as {interface.value} is")
        raise TypeError(
            f"{name} is called with {detected.arguments}, as {detected.value} is, "
            f"and not with {interface.arguments}, as {interface.value} is"
        )


def _names_of(interface: Interface) -> list[str]:
    return interface.arguments.split(",")


def _check_callable(app: object, name: str) -> None:
    for kind in type(app).__mro__:
        root = kind.__module__.partition(".")[0]
        if root in _OWN_SERVERS:
            raise TypeError(f"{name} is an application of {root}, which runs on a server of its own")
    if not callable(app):
        raise TypeError(
            f"{name} is of type {type(app).__name__} and cannot be called; kaserve serves what is called with "
            f"{Interface.ASGI.arguments}, {Interface.WSGI.arguments} or {Interface.HANDLER.arguments}: an ASGI "
            "application, a WSGI application or a handler"
        )


def _detect_class(app: type, name: str) -> Interface:
    """A class is an application if making an instance of it is the call (PEP 3333, the example `AppClass`)."""
    signature = _signature(app)
    interface = None if signature is None else _of_names(signature)
    if hasattr(app, "__iter__") and signature is not None and _accepts(signature, 2):
        return Interface.WSGI
    if interface is Interface.ASGI or (signature is not None and list(signature.parameters)[:1] == ["scope"]):
        return Interface.ASGI
    if signature is not None and _accepts(signature, 0):
        raise TypeError(f"{name} is a class; write {name}() to serve an instance of it")
    raise TypeError(f"{name} is a class; make an instance of it in the module, and name that")


def _coroutine_function(name: str) -> TypeError:
    return TypeError(
        f"{name} is a coroutine function (async def) with two arguments; an ASGI application is called with "
        f"{Interface.ASGI.arguments}, an async handler with {Interface.HANDLER.arguments}"
    )


def _is_asgi_2(app: object, signature: inspect.Signature | None) -> bool:
    """Whether `app` is called with (scope), and what it returns with (receive, send)."""
    return signature is not None and _accepts(signature, 1) and not _accepts(signature, 3) and not _is_async(app)


# Signatures.


def _unwrap(app: object) -> Any:
    """The function within functools.partial and methods, as far as the kind of a function goes."""
    while isinstance(app, functools.partial):
        app = app.func
    return app


def _is_async(app: object) -> bool:
    """Whether a call returns a coroutine or an asynchronous generator."""
    app = _unwrap(app)
    call = type(app).__call__ if callable(app) and not inspect.isroutine(app) else app
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (app, call))


def _is_generator(app: object) -> bool:
    """Whether a call returns a generator, asynchronous or not."""
    function = _unwrap(app)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _signature(app: Any) -> inspect.Signature | None:
    """The signature of `app`; None for some functions of C, which have none."""
    try:
        return inspect.signature(app)
    except (ValueError, TypeError):
        return None


def _positional(signature: inspect.Signature) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each for each in signature.parameters.values() if each.kind in kinds]


def _accepts(signature: inspect.Signature, count: int) -> bool:
    """Whether a call with `count` positional arguments is possible."""
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _of_names(signature: inspect.Signature) -> Interface | None:
    """The interface whose names the parameters have."""
    names = [each.name for each in _positional(signature)]
    if names[:3] == ["scope", "receive", "send"] or (names == ["scope"] and _accepts(signature, 1)):  # ASGI 3 and 2
        return Interface.ASGI
    if len(names) > 1 and names[0] in _ENVIRON and _accepts(signature, 2):
        return Interface.WSGI
    if names and names[0] in _REQUEST and _accepts(signature, 1):
        return Interface.HANDLER
    return None


def _of_count(signature: inspect.Signature, name: str) -> Interface | None:
    """The interface whose number of arguments must be given; None if any number is accepted."""
    required = [each for each in _positional(signature) if each.default is inspect.Parameter.empty]
    is_open = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in signature.parameters.values())
    if is_open and len(required) < 2:
        return None
    if not required and _accepts(signature, 0):
        raise TypeError(
            f"{name} needs no arguments, so it seems to be a factory; write {name}() to serve what it returns"
        )
    interface = _BY_COUNT.get(len(required))
    if interface is None or not _accepts(signature, len(required)):
        raise TypeError(
            f"{name} has the parameters {signature}; an ASGI application is called with {Interface.ASGI.arguments}, "
            f"a WSGI application with {Interface.WSGI.arguments}, a handler with {Interface.HANDLER.arguments}"
        )
    return interface
