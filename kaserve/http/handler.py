"""What a handler is: a function from a request to a response, or a `BaseHandler` with hooks around that.

This is the only definition of a handler. A server wraps a plain function once (`as_handler`); from then on every hook
is a method that exists, and nothing is looked up by name. Knows messages and sinks. Does not know connections.

The life of a request with a body is `before_body`, `body_sink`, then the call; without a body it is the call alone. If
the sink is a `BodyStream` the call comes at once, and the handler reads the body while it arrives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from inspect import iscoroutinefunction
from typing import Any

from .body_stream import BodyStream
from .messages import Request, Response
from .sinks import Sink

__all__ = ["BaseHandler", "BodySink", "CoroutineHandler", "FunctionHandler", "Handler", "HandlerResult", "as_handler"]

HandlerResult = Response | Future[Response]
BodySink = Sink | Future[Any] | None


class BaseHandler:
    """A handler with hooks. Subclasses override `__call__` and the hooks they need; the others do nothing.

    Every method is called in the server's own thread. All but `close` must not block, since no other connection is
    served meanwhile; `kaserve.handlers.Threaded` calls `__call__` in other threads, where it may.

    Attributes:
        streams: whether this handler is called when the head of a request has been read, and reads the body from
            `Request.stream` while it arrives. To decide for each request, override `body_sink`, and return a
            `BodyStream()` for those. A middleware, and `Mount`, ask the inner handler.
    """

    streams = False

    def __call__(self, request: Request) -> HandlerResult:
        """Responds to `request`, whose body has been received, unless this handler streams.

        Args:
            request: the request. Its body may be read from `request.body`; what a sink of `body_sink` made of the body
                is in `request.received`.

        Returns:
            The response, or a Future of it that any thread may complete; the connection waits for it. If the result of
            the Future is another Future, the connection waits for that as well. A subclass may make this method an
            `async def`.

        Raises:
            HTTPError: becomes an error response. The connection persists unless the error says `close=True`.
        """
        raise NotImplementedError

    def before_body(self, request: Request) -> None:
        """Called when the head of a request with a body has been read.

        Raises:
            HTTPError: the response to the request. A small body is drained first, so that the connection persists; a
                client that sent `Expect: 100-continue` or announced a large body gets the response at once, and the
                connection closes after it (RFC 9110 §10.1.1).
        """

    def body_sink(self, request: Request) -> BodySink:
        """Called after `before_body`: what receives the body.

        Returns:
            A sink, whose result becomes `request.received`; or None to have the body in `request.body`, in memory or in
            a temporary file. Or a new `BodyStream`, to be called at once and read it from `request.stream`; that is
            what this method does if `streams` is true. Or a Future, which any thread may complete, if it is not decided
            yet: `body_sink` is called again once it is done, and until then nothing of the body is read.

        Raises:
            HTTPError: as in `before_body`.
        """
        return BodyStream() if self.streams else None

    def attach(self, service: Any) -> None:
        """Called once, before the first request, by the server that will call this handler. For handlers that have
        connections or timers of their own, such as `kaserve.Proxy`; others can ignore it.

        Args:
            service: the `kaserve.net.service.Service` of the server, with its reactor and its counters.
        """

    def detach(self) -> None:
        """Called once, after the last request, when the server that called `attach` closes, and its event loop still
        works: closes connections and timers of its own."""

    def end_of_turn(self) -> None:
        """Called after each turn of the reactor, in which any number of requests may have been handled."""

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        """Puts whatever guards `path` here in front of `page`.

        The server asks this for its own pages, such as that of `--status`, so that a handler that asks for a password
        does so for them as well.

        Args:
            path: where the page is, as in `Request.raw_path`.
            page: the handler of the page.

        Returns:
            `page` itself, or a handler in front of it.
        """
        return page

    def make_private(self) -> None:
        """Called when a middleware that lets only known users through is put in front: from now on no response may
        allow shared caches to store it (RFC 9111 §3.5). May be called more than once.

        A handler that delegates to others passes it on. It concerns only what the handler itself says: an application
        that declares its responses public is believed.
        """

    def close(self) -> None:
        """Releases what the handler holds. No request comes afterwards. May be called twice."""


class FunctionHandler(BaseHandler):
    """A plain function as a handler.

    Attributes:
        function: the function. A connection calls it directly, which saves one call per request.
    """

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Request], HandlerResult]) -> None:
        self.function = function

    def __call__(self, request: Request) -> HandlerResult:
        return self.function(request)


class CoroutineHandler(BaseHandler):
    """An `async def` function as a handler, or a handler whose `__call__` is one. It runs in an asyncio event loop in
    the server's own thread.

    Attributes:
        inner: the handler, whose hooks are called as always.
    """

    def __init__(self, inner: BaseHandler) -> None:
        self.inner = inner
        self._respond: Callable[[Any, Request], HandlerResult] | None = None

    def __call__(self, request: Request) -> HandlerResult:
        if self._respond is None:
            raise RuntimeError("an async handler can only be called by a running server")
        return self._respond(self.inner(request), request)

    def before_body(self, request: Request) -> None:
        self.inner.before_body(request)

    def body_sink(self, request: Request) -> BodySink:
        return self.inner.body_sink(request)

    def attach(self, service: Any) -> None:
        self._respond = service.get_host().coroutines(service)
        self.inner.attach(service)

    def detach(self) -> None:
        self.inner.detach()

    def end_of_turn(self) -> None:
        self.inner.end_of_turn()

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        return self.inner.protect(path, page)

    def make_private(self) -> None:
        self.inner.make_private()

    def close(self) -> None:
        self.inner.close()


_HOOKS = ("streams", "before_body", "body_sink", "attach", "detach", "end_of_turn", "protect", "make_private", "close")

Handler = BaseHandler | Callable[[Request], HandlerResult | Awaitable[Response]]
"""What `Server` accepts: a BaseHandler or a function, which may be an `async def`."""


def as_handler(handler: Handler) -> BaseHandler:
    """Returns `handler` if it is a BaseHandler, otherwise the function wrapped as one; and so that a server can call it
    although it is an `async def`.

    Raises:
        TypeError: `handler` cannot be called, or has an attribute named like a hook without being a BaseHandler: that
            hook would never be used.
    """
    if isinstance(handler, BaseHandler):
        return CoroutineHandler(handler) if iscoroutinefunction(type(handler).__call__) else handler
    if not callable(handler):
        raise TypeError(f"a handler must be a function or a BaseHandler, not {type(handler).__name__}")
    for hook in _HOOKS:
        if hasattr(handler, hook):
            raise TypeError(
                f"{type(handler).__name__} has a hook, {_called(hook)}, so it must derive from kaserve.BaseHandler"
            )
    function: Any = handler
    if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):
        return CoroutineHandler(FunctionHandler(function))
    return FunctionHandler(function)


def _called(hook: str) -> str:
    return hook if hook == "streams" else f"{hook}()"
