"""BasicAuth: a handler that lets only known users through to another one (RFC 7617).

Knows the Authorization field and who may come in. Does not know how hashes work (`passwords`), files, or sockets.

A password is checked by a hash that is slow, so that it cannot be guessed even by who has got hold of the hash. Nobody
waits for that but the client itself: the first request with a password is answered through a Future, while a small
pool of threads does the work, and the outcome is remembered under a keyed digest. The threads do nothing else: what is
behind the door is always called by the server's own thread.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ...http.errors import HTTPError
from ...http.messages import CONTENT_LENGTH, TRANSFER_ENCODING, FieldLine, Request, error_response
from ...http.sinks import Sink, Spool, drain_or_reject
from .base import Middleware
from .passwords import Check, read_hash

__all__ = ["BasicAuth", "parse_user"]

_CREDENTIALS = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)  # RFC 7617 §2, RFC 9110 §11.4
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_THREADS = 2
_MAX_REMEMBERED = 1024


def parse_user(text: str) -> tuple[str, str]:
    """The name and the hash in `USER:HASH`. Raises ValueError with what it must be instead."""
    name, _, password_hash = text.partition(":")
    if not name or not password_hash or _CONTROL.search(text):
        raise ValueError("must be USER:HASH, with a hash that kaserve --hash-password printed")
    try:
        read_hash(password_hash)
    except ValueError as error:
        raise ValueError(f"must be USER:HASH, but the part after the colon {error}") from None
    return name, password_hash


class BasicAuth(Middleware):
    """Asks every request for a user of `users` and his password, and has `handler` answer those that have them.

    It must stand in front of whatever else has a say in the matter, but for a CORS preflight, which comes without
    credentials. Use it with TLS: the password is readable otherwise.
    """

    def __init__(
        self, handler: Any, users: Mapping[str, str], *, realm: str = "kaserve", fields: tuple[FieldLine, ...] = ()
    ) -> None:
        """users: hashes by name, as of `parse_user`; at least one. fields: are added to a refusal."""
        super().__init__(handler)
        self._checks: dict[bytes, Check] = {name.encode(): read_hash(text) for name, text in users.items()}
        self._stranger = next(iter(self._checks.values()))  # checked for no other reason than that it takes time
        challenge = f'Basic realm="{realm}", charset="UTF-8"'
        self._refusal_fields = (("WWW-Authenticate", challenge), *fields)
        self._key = os.urandom(32)
        self._known: dict[bytes, bool] = {}  # what is right and what is wrong, by digest, so that it is in no memory
        self._pending: dict[bytes, Future[bool]] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="kaserve-passwords")

    def close(self) -> None:
        """Lets go of the threads, and of the handler if it wants that."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def remote_user(self, request: Request) -> str:
        """Who has come in with this request, as far as that is remembered; "" for anybody else. For the access log."""
        values = request.values("authorization")
        if len(values) != 1 or not self._known.get(self._digest(values[0])):
            return ""
        credentials = _decode(values[0])
        return "" if credentials is None else credentials[0].decode("latin-1")

    # The hooks of a handler.

    def refuse(self, request: Request) -> None:
        """Nothing before it is known who asks: `sink` sees to that."""

    def sink(self, request: Request) -> Sink:
        """Where a body goes: to the handler, for a known user; nowhere, for anybody else. Raises HTTPError."""
        verdict = self._verdict(request)
        if isinstance(verdict, Future):
            return _Undecided(verdict, lambda verdict: self._admit(request, verdict))
        return self._admit(request, True) if verdict else drain_or_reject(request, self._refusal())

    def __call__(self, request: Request) -> Any:
        return self._ask(request, self._handler)

    def guard(self, handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """`handler`, which reads no bodies, behind the same door: a server's own pages, say."""
        return lambda request: self._ask(request, handler)

    def _ask(self, request: Request, handler: Callable[[Request], Any]) -> Any:
        verdict = self._verdict(request)
        if isinstance(verdict, Future):
            return _Later(verdict, lambda verdict: self._answer(request, handler, verdict))
        return self._answer(request, handler, verdict)

    def _admit(self, request: Request, verdict: bool) -> Sink:
        """Where the handler wants the body. Raises HTTPError when that, or the verdict, is that nobody wants it."""
        if not verdict:
            raise self._refusal()
        super().refuse(request)
        return super().sink(request)

    def _answer(self, request: Request, handler: Callable[[Request], Any], verdict: bool) -> Any:
        if not verdict:
            return error_response(self._refusal())
        if request.flags & (CONTENT_LENGTH | TRANSFER_ENCODING) and isinstance(request.body, _Held):
            request.body = request.body.undecided.hand_over()
        return handler(request)

    def _refusal(self) -> HTTPError:
        return HTTPError(401, "a user and a password are needed", self._refusal_fields)

    # Who it is.

    def _verdict(self, request: Request) -> bool | Future[bool]:
        """Whether the request may pass; a Future when that is not known yet."""
        values = request.values("authorization")
        if len(values) != 1:
            return False
        digest = self._digest(values[0])
        known = self._known.get(digest)
        if known is not None:
            return known
        pending = self._pending.get(digest)
        if pending is not None:
            return pending
        credentials = _decode(values[0])
        if credentials is None:
            return False
        pending = self._pending[digest] = self._pool.submit(self._check, *credentials)
        pending.add_done_callback(lambda done: self._remember(digest, done))
        return self._known.get(digest, pending)

    def _digest(self, value: str) -> bytes:
        return hashlib.blake2b(value.encode("latin-1"), key=self._key, digest_size=32).digest()

    def _check(self, name: bytes, password: bytes) -> bool:
        """In a thread of the pool: takes as long for a name that nobody has."""
        check = self._checks.get(name)
        return (check or self._stranger)(password) and check is not None

    def _remember(self, digest: bytes, done: Future[bool]) -> None:
        """In a thread of the pool. What is wrong makes room for itself, but never at the cost of what is right."""
        if not done.cancelled() and done.exception() is None:
            if len(self._known) >= _MAX_REMEMBERED:
                right = {known: True for known, verdict in list(self._known.items()) if verdict}
                self._known = right if len(right) < _MAX_REMEMBERED else {}
            self._known[digest] = done.result()
        self._pending.pop(digest, None)


def _decode(value: str) -> tuple[bytes, bytes] | None:
    """The name and the password in an Authorization field; None when there are none."""
    found = _CREDENTIALS.fullmatch(value)
    if found is None:
        return None
    try:
        name, colon, password = base64.b64decode(found[1], validate=True).partition(b":")
    except ValueError:
        return None
    return (name, password) if colon else None


class _Later(Future[Any]):
    """An answer that is made of a verdict when somebody asks for it, and in his thread."""

    def __init__(self, verdict: Future[bool], answer: Callable[[bool], Any]) -> None:
        super().__init__()
        self._make_answer = answer
        verdict.add_done_callback(self._decided)

    def _decided(self, verdict: Future[bool]) -> None:
        if self.set_running_or_notify_cancel():
            error = None if verdict.cancelled() else verdict.exception()
            if error is None:
                self.set_result(not verdict.cancelled() and verdict.result())
            else:
                self.set_exception(error)

    def result(self, timeout: float | None = None) -> Any:
        return self._make_answer(super().result(timeout))


class _Undecided:
    """The sink of a request whose password is being checked: keeps the body until the handler may have it."""

    def __init__(self, verdict: Future[bool], admit: Callable[[bool], Sink]) -> None:
        self._verdict = verdict
        self._admit = admit
        self._kept = Spool()
        self._sink: Sink | None = None

    def write(self, data: bytes) -> None:
        if self._sink is None and self._verdict.done():
            self.decide()
        (self._sink or self._kept).write(data)

    def decide(self) -> Sink:
        """Hands on what was kept, once the verdict is there. Raises HTTPError."""
        if self._sink is None:
            self._sink = self._admit(self._verdict.result())
            with self._kept.finish() as kept:
                while data := kept.read(1 << 16):
                    self._sink.write(data)
        return self._sink

    def finish(self) -> Any:
        sink, self._sink = self._sink, None
        return _Held(self) if sink is None else sink.finish()

    def hand_over(self) -> Any:
        """The same as `decide` and `finish`, for a body that was complete before the verdict."""
        self.decide()
        return self.finish()

    def abandon(self) -> None:
        self._kept.abandon()
        if self._sink is not None:
            self._sink.abandon()


class _Held(io.BytesIO):
    """In place of a body that is complete, but not the handler's yet."""

    def __init__(self, undecided: _Undecided) -> None:
        super().__init__()
        self.undecided: _Undecided = undecided

    def close(self) -> None:
        if not self.closed:
            self.undecided.abandon()
        super().close()
