"""WebSocketCall: one WebSocket that an ASGI application has, with its `receive` and `send`.

Knows the messages of the specification ("WebSocket"), in which order they may come, and what the server does about
each. Does not know frames, nor how connections work: before the handshake it is a request that wants a response, and
afterwards a `WebSocket`.

The handshake ends in one of four ways. The application accepts (101), or closes (403), or responds as to any request,
with a denial (`websocket.http.response.start`), or fails (500).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any

from ...http.body_stream import ClientDisconnected
from ...http.errors import HTTPError
from ...http.messages import Request, Response
from ...net.reactor import Reactor
from ..call import Call, Message, new_call
from ..departures import is_departure
from ..done import NOTHING, new_done
from ..fields import decode_fields
from ..tasks import as_exception
from ..waiter import Waiter
from .connection import WebSocket
from .handshake import Negotiator, accept_headers
from .settings import WebSocketSettings
from .waiting import closed_error, receive_later, wait_for_room

__all__ = ["WebSocketCall"]

log = logging.getLogger("kaserve")

_CONNECTING, _OPEN, _DENIED, _CLOSED = range(4)

_NORMAL, _GOING_AWAY, _ABNORMAL, _INTERNAL_ERROR = 1000, 1001, 1006, 1011  # RFC 6455 §7.4.1
_OWN_HEADERS = frozenset({"sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-protocol"})


class WebSocketCall:
    """One WebSocket, from its request until the application returns.

    Attributes:
        result: the response, or what it failed with; None while there is none.
        future: of the response; None while the handler is being called and can still return `result` itself.
    """

    __slots__ = (
        "_denial",
        "_has_connected",
        "_has_left",
        "_loop",
        "_negotiator",
        "_reactor",
        "_request",
        "_settings",
        "_socket",
        "_state",
        "_waiters",
        "future",
        "result",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reactor: Reactor,
        request: Request,
        negotiator: Negotiator,
        settings: WebSocketSettings,
    ) -> None:
        """Begins with a request that `check_request` has accepted."""
        self._loop = loop
        self._reactor = reactor
        self._request = request
        self._negotiator = negotiator
        self._settings = settings
        self._socket: WebSocket | None = None
        self._denial: Call | None = None
        self._state = _CONNECTING
        self._has_connected = False  # websocket.connect has been received
        self._has_left = False  # the client has gone during the handshake
        self._waiters: list[Waiter] | None = None  # of those who wait in `receive` and `send`
        self.result: Response | Exception | None = None
        self.future: Future[Response] | None = None

    def client_left(self) -> None:
        """`Request.on_leave`: the client has gone before the handshake was complete."""
        self._has_left = True
        if self._denial is not None:
            self._denial.client_left()
        self._notify()

    def _notify(self, now: bool = False) -> None:
        """Lets those look again who wait.

        Args:
            now: whether they may go on before this returns.
        """
        waiters, self._waiters = self._waiters, None
        if waiters is not None:
            for waiter in waiters:
                waiter.wake(now=now)

    def new_waiter(self) -> Waiter:
        """Returns what wakes a task when there is something new."""
        waiter = Waiter(self._loop)
        if self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """A task does not wait any more."""
        if self._waiters is not None and waiter in self._waiters:
            self._waiters.remove(waiter)

    # What the application receives.

    def receive(self) -> Awaitable[Message]:
        """Returns the next message, once it is awaited: websocket.connect, then the messages of the client, and in the
        end websocket.disconnect."""
        message = self.next_message()
        if message is None:
            return receive_later(self)
        done: Awaitable[Message] = new_done(message)
        return done

    def next_message(self) -> Message | None:
        """Returns what `receive` does; None if there is nothing to be told yet."""
        socket = self._socket
        if socket is not None:
            if socket.unread:
                data = socket.take()
                return {"type": "websocket.receive", "text" if type(data) is str else "bytes": data}
            if socket.close_code is None:
                return None
            return {"type": "websocket.disconnect", "code": socket.close_code, "reason": socket.close_reason}
        if not self._has_connected:
            self._has_connected = True
            return {"type": "websocket.connect"}
        if self._state == _CONNECTING and not self._has_left:
            return None
        return {"type": "websocket.disconnect", "code": _ABNORMAL, "reason": ""}

    # What it sends.

    def send(self, message: Message) -> Awaitable[None]:
        """Takes a message. To await what it returns waits while the client does not keep up.

        Raises:
            ClientDisconnected: the WebSocket is closed, and not by the application.
            RuntimeError: the message may not come now.
            TypeError, ValueError, KeyError: the message is malformed.
        """
        kind = message["type"]
        if self._state == _OPEN:
            socket = self._socket
            assert socket is not None
            if socket.close_code is not None:
                raise closed_error(socket.close_code)
            if kind == "websocket.send":
                if not socket.send(_content(message)):
                    return wait_for_room(self)
            elif kind == "websocket.close":
                socket.close(_code(message), message.get("reason") or "")
                self._state = _CLOSED
            else:
                raise _unexpected(kind, self._state)
            nothing: Awaitable[None] = NOTHING
            return nothing
        return self._send_handshake(kind, message)

    def has_room(self) -> bool:
        """Returns whether the client has received enough for more to be sent."""
        return self._socket is None or self._socket.has_room()

    def closed_by_other(self) -> int:
        """Returns the code that the WebSocket is closed with; 0 if it is open, or the application has closed it."""
        if self._socket is None or self._state == _CLOSED:
            return 0
        return self._socket.close_code or 0

    def _send_handshake(self, kind: str, message: Message) -> Awaitable[None]:
        """Takes a message that must be the response to the handshake, or a part of it."""
        if self._request.disconnected and self._state == _CONNECTING:
            raise ClientDisconnected("the client has left before the handshake was complete")
        if self._state == _CONNECTING and kind == "websocket.accept":
            self._accept(message)
        elif self._state == _CONNECTING and kind == "websocket.close":
            self._state = _CLOSED
            self._complete(HTTPError(403, "the WebSocket was rejected"))
        elif self._state in (_CONNECTING, _DENIED) and kind.startswith("websocket.http.response."):
            return self._deny(kind, message)
        else:
            raise _unexpected(kind, self._state)
        nothing: Awaitable[None] = NOTHING
        return nothing

    def _accept(self, message: Message) -> None:
        lines = decode_fields(message.get("headers") or ())
        for name, _ in lines:
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"{name} is set by the server; the subprotocol is a key of websocket.accept")
        extension_lines, extensions = self._negotiator.extensions(self._request)
        own = accept_headers(self._request, message.get("subprotocol"))
        self._socket = socket = WebSocket(self._reactor, self._settings, extensions, self._notify)
        self._state = _OPEN
        self._complete(Response.upgrade("websocket", socket, [*own, *extension_lines, *lines]))

    def _deny(self, kind: str, message: Message) -> Awaitable[None]:
        """Passes on what is a message of an HTTP response but for its name (extension "Websocket Denial Response")."""
        denial = self._denial
        if denial is None:
            denial = self._denial = new_call(self._loop, self._request)
            denial.result = self.result
        denial.future = self.future
        sent: Awaitable[None] = denial.send({**message, "type": kind.removeprefix("websocket.")})
        self._state = _DENIED
        self.result = denial.result
        return sent

    # The response, and the end.

    def task_done(self, task: asyncio.Task[Any]) -> None:
        """The callback of the application's task."""
        self.end(task)

    def end(self, task: asyncio.Task[Any]) -> None:
        """The application has returned or failed. Ends what it has not ended."""
        if self._denial is not None:
            self._denial.future = self.future
            self._denial.end(task)
            self.result = self._denial.result
            return
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._returned()
        else:
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        """The application has raised `error`: a 500, or 1011 if the handshake is complete."""
        socket = self._socket
        is_over = self._has_left if socket is None else socket.close_code is not None
        cancelled = isinstance(error, asyncio.CancelledError)
        if is_departure(error) or (cancelled and is_over):
            self._depart()
        elif self._state == _CONNECTING:
            self._state = _CLOSED
            self._complete(as_exception(error))
        else:
            if not cancelled:
                log.error("the application failed on %r", self._request, exc_info=error)
            if socket is not None:
                socket.close(_GOING_AWAY if cancelled else _INTERNAL_ERROR)

    def _returned(self) -> None:
        if self._socket is not None:
            self._socket.close(_NORMAL)
        elif self._state == _CONNECTING and self._has_left:
            self._depart()
        elif self._state == _CONNECTING:
            self._state = _CLOSED
            self._complete(RuntimeError("the application returned without accepting or rejecting the WebSocket"))

    def _depart(self) -> None:
        """The application has stopped because the client has left."""
        if self._socket is not None:
            self._socket.close(_INTERNAL_ERROR)
        elif self._state == _CONNECTING:
            self._state = _CLOSED
            self._complete(HTTPError(500, "the WebSocket was given up", close=True))

    def _complete(self, result: Response | Exception) -> None:
        """The response to the handshake."""
        future = self.future
        if future is None:
            self.result = result
        elif future.done() or not future.set_running_or_notify_cancel():
            if isinstance(result, Response):
                result.close()  # the client has left
        elif isinstance(result, Response):
            future.set_result(result)
        else:
            future.set_exception(result)


def _content(message: Message) -> str | bytes:
    text = message.get("text")
    if text is not None:
        if not isinstance(text, str):
            raise TypeError(f"the text of a message must be a str, not {type(text).__name__}")
        return text
    data = message.get("bytes")
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError("websocket.send must have text, a str, or bytes")


def _code(message: Message) -> int:
    code = message.get("code")
    return _NORMAL if code is None else int(code)


def _unexpected(kind: str, state: int) -> RuntimeError:
    return RuntimeError(f"the application has sent {kind!r}, but {_EXPECTED[state]}")


_EXPECTED = (
    "websocket.accept, websocket.close or websocket.http.response.start must come first",
    "websocket.send or websocket.close must come now",
    "the body of the denial must come now",
    "the WebSocket is closed",
)
