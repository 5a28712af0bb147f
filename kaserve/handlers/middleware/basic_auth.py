"""BasicAuth: lets only known users through to another handler (RFC 7617).

Knows the Authorization header and the users. Does not know how hashes work (`passwords`), files, or sockets.

A password is checked against a hash that is slow on purpose, so that a thief of the hashes cannot guess passwords. Only
the client that sent the password waits for that: the first request with a password gets its response through a
Future while a small pool of threads does the work, and the outcome is cached under a keyed digest. The threads do
nothing else: the inner handler is always called by the server's own thread.

A body that arrives while its password is being checked is held in a spool: the inner handler must not see a byte of it
before the user is known, and the client must not be made to wait either.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from ...http.errors import HTTPError
from ...http.handler import BaseHandler, Handler, HandlerResult
from ...http.messages import FieldLine, Request
from ...http.sinks import Received, Sink, Spool, deliver
from .base import Middleware
from .later import LaterResponse
from .passwords import Check, read_hash

__all__ = ["BasicAuth", "parse_user"]

_CREDENTIALS = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)  # RFC 7617 §2, RFC 9110 §11.4
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_THREADS = 2
_MAX_REMEMBERED = 1024
_UNKNOWN = "\n"  # no user: parse_user allows no control characters in names


def parse_user(text: str) -> tuple[str, str]:
    """Returns the name and the hash in `USER:HASH`.

    Raises:
        ValueError: says what it must be instead, without repeating the text, which may contain a password.
    """
    name, _, password_hash = text.partition(":")
    if not name or not password_hash or _CONTROL.search(text):
        raise ValueError("must be USER:HASH; make the hash with `kaserve --hash-password`")
    try:
        read_hash(password_hash)
    except ValueError as error:
        raise ValueError(f"must be USER:HASH, but the part after the colon {error}") from None
    return name, password_hash


class BasicAuth(Middleware):
    """Asks every request for a user and password; lets the inner handler respond if they are right.

    It must stand in front of everything else that decides about a request, except a CORS preflight, which browsers send
    without credentials. The password is readable on the network: use it with TLS. A request that is let in has the name
    of its user in `Request.remote_user`.
    """

    def __init__(
        self, handler: Handler, users: Mapping[str, str], *, realm: str = "kaserve", headers: tuple[FieldLine, ...] = ()
    ) -> None:
        """Protects `handler`, and makes it private.

        Args:
            handler: a function or handler, which is closed together with this one.
            users: hashes by user name, as `parse_user` returns them; at least one.
            realm: shown by browsers when they ask for the password.
            headers: further headers of a 401 response.
        """
        super().__init__(handler)
        self.inner.make_private()
        self._checks: dict[bytes, Check] = {name.encode(): read_hash(text) for name, text in users.items()}
        # Checked for unknown users, so that the time of a response does not tell which names exist.
        self._dummy_check = next(iter(self._checks.values()))
        challenge = f'Basic realm="{realm}", charset="UTF-8"'
        self._error_headers = (("WWW-Authenticate", challenge), *headers)
        self._key = os.urandom(32)
        # The verdicts by keyed digest, so that no password stays in memory: a user name, or None for a wrong one.
        self._verdicts: dict[bytes, str | None] = {}
        self._pending: dict[bytes, Future[str | None]] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="kaserve-passwords")

    def stop(self) -> None:
        """Ends the threads, and leaves the inner handler open: for an owner of this middleware alone."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        self.stop()
        super().close()

    # Hooks.

    def before_body(self, request: Request) -> None:
        """Does nothing: whether the inner handler may see the request is decided in `body_sink`."""

    def body_sink(self, request: Request) -> Sink | None:
        verdict = self._verdict(request)
        if isinstance(verdict, Future):
            return _UndecidedSink(request, verdict, self._admit)
        return self._admit(request, verdict)

    def __call__(self, request: Request) -> HandlerResult:
        return self._respond(request, self.inner)

    def protect(self, path: str, page: BaseHandler) -> BaseHandler:
        """Puts the same check in front of `page`. What inner handlers would ask for comes too late to matter."""
        return _ProtectedPage(page, self._respond)

    # Deciding.

    def _respond(self, request: Request, handler: BaseHandler) -> HandlerResult:
        """Lets `handler` respond if the user is known, now or later."""
        verdict = self._verdict(request)
        if isinstance(verdict, Future):
            return LaterResponse(verdict, lambda done: self._respond_as(done.result(), request, handler))
        return self._respond_as(verdict, request, handler)

    def _respond_as(self, user: str | None, request: Request, handler: BaseHandler) -> HandlerResult:
        if user is None:
            raise self._unauthorized()
        request.remote_user = user
        if isinstance(request.received, _UndecidedSink):  # the body was complete before the verdict
            request.received.hand_over()
        return handler(request)

    def _admit(self, request: Request, user: str | None) -> Sink | None:
        """Asks the inner handler where it wants the body. Raises HTTPError if the body is not wanted."""
        if user is None:
            raise self._unauthorized()
        request.remote_user = user
        super().before_body(request)
        return super().body_sink(request)

    def _unauthorized(self) -> HTTPError:
        return HTTPError(401, "a user and a password are needed", self._error_headers)

    # Checking passwords.

    def _verdict(self, request: Request) -> str | Future[str | None] | None:
        """Returns the user of a request, None if it may not pass, or a Future of that while the hash is computed."""
        values = request.values("authorization")
        if len(values) != 1:
            return None
        digest = self._digest(values[0])
        known = self._verdicts.get(digest, _UNKNOWN)  # one look: a thread of the pool may replace the dictionary
        if known is not _UNKNOWN:
            return known
        pending = self._pending.get(digest)
        if pending is not None:
            return pending
        credentials = _decode(values[0])
        if credentials is None:
            return None
        pending = self._pending[digest] = self._pool.submit(self._check, *credentials)
        pending.add_done_callback(lambda done: self._remember(digest, done))
        known = self._verdicts.get(digest, _UNKNOWN)  # a fast hash may be done already
        return pending if known is _UNKNOWN else known

    def _digest(self, value: str) -> bytes:
        return hashlib.blake2b(value.encode("latin-1"), key=self._key, digest_size=32).digest()

    def _check(self, name: bytes, password: bytes) -> str | None:
        """In a thread of the pool: takes as long for a name that does not exist."""
        check = self._checks.get(name)
        is_right = (check or self._dummy_check)(password)
        return name.decode("latin-1") if is_right and check is not None else None

    def _remember(self, digest: bytes, done: Future[str | None]) -> None:
        """In a thread of the pool. When the cache is full, wrong passwords are forgotten and right ones are not: an
        attacker must not be able to make every request of a user wait for a hash."""
        if not done.cancelled() and done.exception() is None:
            if len(self._verdicts) >= _MAX_REMEMBERED:
                right: dict[bytes, str | None] = {
                    key: user for key, user in list(self._verdicts.items()) if user is not None
                }
                self._verdicts = right if len(right) < _MAX_REMEMBERED else {}
            self._verdicts[digest] = done.result()
        self._pending.pop(digest, None)


def _decode(value: str) -> tuple[bytes, bytes] | None:
    """Returns the name and password in an Authorization header; None if there are none."""
    found = _CREDENTIALS.fullmatch(value)
    if found is None:
        return None
    try:
        name, colon, password = base64.b64decode(found[1], validate=True).partition(b":")
    except ValueError:
        return None
    return (name, password) if colon else None


class _ProtectedPage(BaseHandler):
    """A page of the server, which reads no body, after a check of the user."""

    def __init__(self, page: BaseHandler, respond: Callable[[Request, BaseHandler], HandlerResult]) -> None:
        self._page = page
        self._respond = respond

    def __call__(self, request: Request) -> HandlerResult:
        return self._respond(request, self._page)


class _UndecidedSink:
    """The sink of a request whose password is still being checked: holds the body until the inner handler may have it.

    A body that is complete before the verdict leaves this object in `Request.received`, so that `hand_over` can pass on
    what was held.
    """

    def __init__(
        self,
        request: Request,
        verdict: Future[str | None],
        admit: Callable[[Request, str | None], Sink | None],
    ) -> None:
        self._request = request
        self._verdict = verdict
        self._admit = admit
        self._held = Spool()
        self._sink: Sink | None = None

    def write(self, data: bytes) -> None:
        if self._sink is None and self._verdict.done():
            self._decide()
        (self._sink or self._held).write(data)

    def _decide(self) -> Sink:
        """Passes on what was held to the sink of the inner handler. Raises HTTPError if the body is not wanted."""
        self._sink = sink = self._admit(self._request, self._verdict.result()) or Spool()
        with self._held.finish() as held:
            while data := held.read(1 << 16):
                sink.write(data)
        return sink

    def finish(self) -> Received | None:
        """Completes the body, unless the verdict is still missing: then this object is what was received."""
        if self._sink is None:
            return self
        sink, self._sink = self._sink, None
        if isinstance(sink, Spool):
            self._request.body = sink.finish()
            return None
        return sink.finish()

    def hand_over(self) -> None:
        """Delivers the body to the inner handler, after the verdict. Raises HTTPError if it is not wanted."""
        sink = self._decide()  # should this raise, the request still owns this object, and closes it
        self._sink = None
        self._request.received = None
        deliver(sink, self._request)

    def abandon(self) -> None:
        self._held.abandon()
        if self._sink is not None:
            self._sink.abandon()

    close = abandon
