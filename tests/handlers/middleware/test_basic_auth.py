"""BasicAuth and passwords: which users are let in, which requests wait, and where bodies go meanwhile."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.handlers.middleware import basic_auth
from kaserve.handlers.middleware.basic_auth import BasicAuth, parse_user
from kaserve.handlers.middleware.passwords import hash_password, read_hash
from kaserve.http.errors import HTTPError
from kaserve.http.handler import BaseHandler, as_handler
from kaserve.http.messages import Request, Response
from kaserve.http.sinks import DrainSink, Sink, Spool, deliver
from tests.tools.files import parse
from tests.tools.hooks import open_sink, respond
from tests.tools.server import Client, connect, request, serving


def fast_hash(password: bytes) -> str:
    import hashlib

    digest = hashlib.pbkdf2_hmac("sha256", password, b"salt", 1, 32)
    return f"$pbkdf2-sha256$1$c2FsdA${base64.b64encode(digest).decode().rstrip('=')}"


USERS = {"ann": fast_hash(b"secret"), "j\u00f6rg": fast_hash("p:w\u00e4".encode())}


def credentials(user: str, password: str, scheme: str = "Basic") -> str:
    return f"Authorization: {scheme} {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


ANN = credentials("ann", "secret")
WRONG = credentials("ann", "wrong")


class Inner(BaseHandler):
    """A handler that records which of its methods were called, and in which thread."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.kept: list[bytes] = []

    def note(self, what: str) -> None:
        self.calls.append((what, threading.get_ident()))

    def before_body(self, request: Request) -> None:
        self.note("before_body")
        if request.method == "PATCH":
            raise HTTPError(405, "no")

    def body_sink(self, request: Request) -> Sink:
        self.note("body_sink")
        return Spool()

    def __call__(self, request: Request) -> Response:
        self.note("call")
        return Response.text(f"{request.method} {request.body.read().decode()}")

    @property
    def names(self) -> list[str]:
        assert {thread for _, thread in self.calls} <= {threading.get_ident()}
        return [name for name, _ in self.calls]


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def door(inner: Inner) -> Iterator[BasicAuth]:
    door = BasicAuth(inner, USERS, headers=(("X-Mine", "1"),))
    yield door
    door.close()


def ask(door: BasicAuth, *lines: str, method: str = "GET") -> Response:
    return respond(door, parse("/", method, *lines))


class TestCredentials:
    def test_without_credentials(self, door: BasicAuth, inner: Inner) -> None:
        """RFC 9110 §11.6.1, RFC 7617 §2 and §2.1."""
        with pytest.raises(HTTPError) as caught:
            door(parse("/"))  # at once
        assert caught.value.status == 401
        headers = (("WWW-Authenticate", 'Basic realm="kaserve", charset="UTF-8"'), ("X-Mine", "1"))
        assert caught.value.headers == headers
        assert inner.names == []

    @pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Basic  "])
    def test_with_the_right_password(self, door: BasicAuth, scheme: str) -> None:
        assert ask(door, credentials("ann", "secret", scheme)).status == 200
        assert ask(door, credentials("j\u00f6rg", "p:w\u00e4", scheme)).status == 200

    @pytest.mark.parametrize(
        "line",
        [
            WRONG,
            credentials("ann", ""),
            credentials("ann", "secret "),
            credentials("Ann", "secret"),
            credentials("", "secret"),
            credentials("bob", "secret"),
            credentials("j\u00f6rg", "secret"),
        ],
    )
    def test_with_anything_else(self, door: BasicAuth, inner: Inner, line: str) -> None:
        assert [ask(door, line).status for _ in range(2)] == [401, 401]
        assert inner.names == []

    @pytest.mark.parametrize(
        "value",
        ["", "Basic", "Basic ", "Basic !", "Basic YW5u", "Basic YW5uOnNlY3JldA", "Basic YW5uOnNlY3JldA===", "\xff",
         "Digest YW5uOnNlY3JldA==", "YW5uOnNlY3JldA==", "Basic YW5uOnNlY3JldA==, Basic YW5uOnNlY3JldA=="],
    )  # fmt: skip
    def test_malformed_credentials(self, door: BasicAuth, value: str) -> None:
        with pytest.raises(HTTPError, match="401"):
            door(parse("/", "GET", f"Authorization: {value}"))  # at once

    def test_two_authorization_headers(self, door: BasicAuth) -> None:
        assert ask(door, ANN, ANN).status == 401

    def test_a_handler_of_any_kind(self) -> None:
        door = BasicAuth(lambda request: Response.text("in"), USERS)
        assert ask(door, ANN).body == b"in"
        assert door.body_sink(parse("/", "POST", ANN, "Content-Length: 1")) is None
        door.close()

    def test_a_handler_that_responds_later(self) -> None:
        later: Future[Response] = Future()
        door = BasicAuth(lambda request: later, USERS)
        result = door(parse("/", "GET", ANN))
        assert result is later or result.result(20) is later  # type: ignore[union-attr]  # the former if the hash was fast
        assert door(parse("/", "GET", ANN)) is later
        door.close()


class TestTheSlowHash:
    """It is computed once for each password, by another thread, while other requests are served."""

    @pytest.fixture
    def checked(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        class Checked:
            """Records the passwords that are checked; waits for `go` before each."""

            def __init__(self) -> None:
                self.passwords: list[bytes] = []
                self.threads: set[int] = set()
                self.go = threading.Event()

            def __call__(self, password: bytes) -> bool:
                assert self.go.wait(20)
                self.passwords.append(password)
                self.threads.add(threading.get_ident())
                return password == b"secret"

        checked = Checked()
        monkeypatch.setattr(basic_auth, "read_hash", lambda text: checked)
        yield checked
        checked.go.set()

    def test_is_computed_once(self, checked: Any, inner: Inner) -> None:
        door = BasicAuth(inner, USERS)
        together: list[Any] = [door(parse("/", "GET", ANN)) for _ in range(3)]
        assert all(isinstance(result, Future) and not result.done() for result in together)
        checked.go.set()
        assert [result.result(20).status for result in together] == [200, 200, 200]
        assert isinstance(door(parse("/", "GET", ANN)), Response)
        assert checked.passwords == [b"secret"]
        assert threading.get_ident() not in checked.threads
        assert inner.names == ["call"] * 4  # each in this thread
        door.close()

    def test_takes_as_long_for_unknown_users(self, checked: Any) -> None:
        checked.go.set()
        door = BasicAuth(Inner(), USERS)
        assert ask(door, credentials("nobody", "secret")).status == 401
        assert checked.passwords == [b"secret"]
        door.close()

    def test_known_passwords_do_not_wait_for_unknown_ones(self, checked: Any) -> None:
        door = BasicAuth(Inner(), USERS)
        checked.go.set()
        assert ask(door, ANN).status == 200
        checked.go.clear()
        assert isinstance(door(parse("/", "GET", WRONG)), Future)
        assert ask(door, ANN).status == 200
        checked.go.set()
        door.close()

    def test_a_client_that_has_left_gets_no_response(self, checked: Any, inner: Inner) -> None:
        door = BasicAuth(inner, USERS)
        result = door(parse("/", "GET", ANN))
        assert isinstance(result, Future)
        assert result.cancel()
        checked.go.set()
        assert ask(door, ANN).status == 200  # the verdict was still remembered
        assert inner.names == ["call"]
        door.close()

    def test_the_cache_of_verdicts_is_bounded(self, checked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(basic_auth, "_MAX_REMEMBERED", 4)
        checked.go.set()
        door = BasicAuth(Inner(), USERS)
        assert ask(door, ANN).status == 200
        for number in range(20):
            assert ask(door, credentials("ann", str(number))).status == 401
        assert len(door._verdicts) <= 4
        assert isinstance(door(parse("/", "GET", ANN)), Response)  # and the right one is still known
        assert len(checked.passwords) == 21
        door.close()

    def test_no_password_stays_in_memory(self, door: BasicAuth) -> None:
        ask(door, ANN)
        assert b"secret" not in repr(vars(door)).encode()

    def test_an_exception_is_not_a_verdict(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(password: bytes) -> bool:
            raise MemoryError

        monkeypatch.setattr(basic_auth, "read_hash", lambda text: fail)
        door = BasicAuth(Inner(), USERS)
        for _ in range(2):
            result = door(parse("/", "GET", ANN))
            assert isinstance(result, Future)
            with pytest.raises(MemoryError):
                result.result(20)
        assert (door._verdicts, door._pending) == ({}, {})
        door.close()


class TestBodies:
    """Nothing of a body reaches the handler before its sender is known."""

    @staticmethod
    def post(*lines: str, length: int = 4, method: str = "POST") -> Request:
        return parse("/", method, f"Content-Length: {length}", *lines)

    @pytest.mark.parametrize("lines", [(), ("Authorization: Basic !",)])
    def test_a_small_one_of_an_unknown_user_is_drained(
        self, door: BasicAuth, inner: Inner, lines: tuple[str, ...]
    ) -> None:
        assert isinstance(open_sink(door, self.post(*lines)), DrainSink)
        assert inner.names == []

    def test_a_chunked_one_of_an_unknown_user_is_drained_up_to_a_limit(self, door: BasicAuth) -> None:
        sink = open_sink(door, parse("/", "POST", "Transfer-Encoding: chunked"))
        sink.write(b"x" * 64 * 1024)
        with pytest.raises(HTTPError) as caught:
            sink.write(b"x")
        assert caught.value.status == 401

    def test_an_unknown_user_gets_no_100_continue(self, door: BasicAuth) -> None:
        with pytest.raises(HTTPError) as caught:
            open_sink(door, parse("/", "POST", "Expect: 100-continue", "Content-Length: 4"))
        assert caught.value.status == 401
        assert caught.value.headers[0][0] == "WWW-Authenticate"

    def test_a_large_one_of_an_unknown_user_is_rejected(self, door: BasicAuth) -> None:
        with pytest.raises(HTTPError):
            open_sink(door, self.post(length=1 << 20))

    def test_one_of_a_known_user(self, door: BasicAuth, inner: Inner) -> None:
        ask(door, ANN)
        assert isinstance(door.body_sink(self.post(ANN)), Spool)
        with pytest.raises(HTTPError, match="405"):
            door.body_sink(self.post(ANN, method="PATCH"))
        assert inner.names == ["call", "before_body", "body_sink", "before_body"]

    @staticmethod
    def send(door: BasicAuth, request: Request, *pieces: bytes) -> Any:
        sink = open_sink(door, request)
        for piece in pieces:
            sink.write(piece)
        deliver(sink, request)
        return respond(door, request)

    def test_it_arrives_while_the_password_is_checked(self, inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
        go = threading.Event()
        monkeypatch.setattr(
            basic_auth, "read_hash", lambda text: lambda password: go.wait(20) and password == b"secret"
        )
        door = BasicAuth(inner, USERS)
        request = self.post(ANN)
        sink = open_sink(door, request)
        sink.write(b"bo")
        sink.write(b"dy")
        deliver(sink, request)
        assert inner.names == []
        result: Any = door(request)
        go.set()
        assert result.result(20).body == b"POST body"
        assert inner.names == ["before_body", "body_sink", "call"]
        # A handler may reject the body then; so does a wrong password, wherever the body is.
        wrong = self.post(WRONG)
        assert self.send(door, wrong, b"body").status == 401
        door.close()

    def test_the_verdict_comes_in_the_middle_of_it(self, inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
        verdicts: list[Future[str | None]] = []
        door = BasicAuth(inner, USERS)

        def submit(*_: Any) -> Future[str | None]:
            verdicts.append(Future())
            return verdicts[-1]

        monkeypatch.setattr(door._pool, "submit", submit)
        request = self.post(ANN)
        sink = open_sink(door, request)
        sink.write(b"bo")
        verdicts[0].set_result("ann")
        sink.write(b"dy")
        assert inner.names == ["before_body", "body_sink"]
        deliver(sink, request)
        result = door(request)
        assert isinstance(result, Response)
        assert result.body == b"POST body"
        for line, status in ((WRONG, 401), (credentials("ann", "secret", "basic"), 405)):
            sink = open_sink(door, self.post(line, method="PATCH"))
            sink.write(b"bo")
            verdicts[-1].set_result(None if status == 401 else "ann")
            with pytest.raises(HTTPError, match=str(status)):
                sink.write(b"dy")
            sink.abandon()
        door.close()

    def test_a_held_body_is_released(self, door: BasicAuth, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(door._pool, "submit", lambda *_: Future())
        request = self.post(ANN)
        sink = open_sink(door, request)
        sink.write(b"x" * (1 << 20))
        deliver(sink, request)
        before = len(os.listdir("/dev/fd"))
        request.close()
        assert len(os.listdir("/dev/fd")) == before - 1


class TestOverConnections:
    @pytest.fixture
    def client(self, door: BasicAuth) -> Iterator[Client]:
        with serving(door) as server, connect(server) as client:
            yield client

    def test_one_connection_for_all_requests(self, door: BasicAuth) -> None:
        """The server calls the handler in its own thread, although another one checked the password."""
        seen = set()

        def handler(request: Request) -> Response:
            seen.add(threading.get_ident())
            return Response()

        door.inner = as_handler(handler)
        with serving(door) as server, connect(server) as client:
            lines = [(), (ANN,), (WRONG,), (ANN,), ("Authorization: x",), (credentials("j\u00f6rg", "p:w\u00e4"),)]
            statuses = [client.ask("/", *each).status for each in lines]
            assert statuses == [401, 200, 401, 200, 401, 200]
        assert len(seen) == 1

    def test_a_small_body_keeps_the_connection(self, client: Client) -> None:
        for line, status in (("X: 1", 401), (WRONG, 401), (ANN, 200), (WRONG, 401), (ANN, 200)):
            client.send(request("PUT", "/", line, "Content-Length: 4") + b"body")
            result = client.answer()
            assert (result.status, result.persists) == (status, True)
            assert result.body == b"PUT body" or status == 401

    def test_a_client_with_a_wrong_password_gets_no_100_continue(self, client: Client) -> None:
        client.send(request("PUT", "/", "Expect: 100-continue", "Content-Length: 4"))
        result = client.answer()
        assert (result.status, result.persists) == (401, False)
        assert client.is_closed

    def test_a_known_user_gets_100_continue(self, client: Client) -> None:
        client.send(request("PUT", "/", ANN, "Expect: 100-continue", "Content-Length: 4"))
        assert client._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"body")
        assert client.answer().body == b"PUT body"


class TestPasswords:
    def test_a_new_hash(self) -> None:
        first, second = hash_password(b"secret"), hash_password(b"secret")
        assert first != second
        assert first.startswith("$scrypt$ln=15,r=8,p=1$")
        check = read_hash(first)
        assert (check(b"secret"), check(b"Secret"), check(b"")) == (True, False, False)

    @pytest.mark.parametrize(
        "text",
        [
            # By passlib.
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
            "$pbkdf2-sha256$29000$ghDi/D.HMOb8n5MSgjAmZA$SWiMbp/vlb8Id.WKTW6zHusv2e8ZFbWtMyFjgQSI2LQ",
            "$pbkdf2-sha512$25000$ImTM2fu/l1Lq/d.7t5ZSig"
            "$4ZFCdliSPJlSUzUGX8UZGU3dF62dmqrwbz8YygRB1fHlw5ImnDpcIHrm22XkOjQlsaXsA7NlEk3cj6WTIfDzPg",
        ],
    )
    def test_hashes_made_by_others(self, text: str) -> None:
        check = read_hash(text)
        assert check(b"password")
        assert not check(b"passwort")

    def test_bcrypt(self) -> None:
        """As htpasswd -B makes it."""
        bcrypt = pytest.importorskip("bcrypt")
        check = read_hash(bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode())
        assert check(b"secret")
        assert not check(b"Secret")
        assert not check(b"x" * 100)

    def test_bcrypt_without_its_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        monkeypatch.setitem(sys.modules, "bcrypt", None)
        with pytest.raises(ValueError, match="pip install bcrypt"):
            read_hash("$2b$12$" + "a" * 53)

    @pytest.mark.parametrize(
        "text",
        [
            "", "secret", "$", "$scrypt$", "$2b$12$short", "$6$salt$digest", "$scrypt$ln=15,r=8,p=1$c2FsdA$short",
            "$scrypt$ln=40,r=8,p=1$c2FsdA$" + "A" * 43, "$scrypt$ln=0,r=8,p=1$c2FsdA$" + "A" * 43,
            "$scrypt$ln=22,r=32,p=1$c2FsdA$" + "A" * 43, "$scrypt$ln=15,r=0,p=1$c2FsdA$" + "A" * 43,
            "$pbkdf2-sha256$0$c2FsdA$" + "A" * 43, "$pbkdf2-sha256$99999999$c2FsdA$" + "A" * 43,
            "$pbkdf2-md5$1000$c2FsdA$" + "A" * 43, "$pbkdf2-sha256$1$c2FsdA$" + "A" * 45,
        ],
    )  # fmt: skip
    def test_unsupported_hashes(self, text: str) -> None:
        with pytest.raises(
            ValueError, match=r"is (not a hash that|a scrypt hash with|a PBKDF2 hash with|a hash whose)"
        ):
            read_hash(text)

    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not a hash that kaserve supports"):
            read_hash("$" + text)

    def test_users(self) -> None:
        text = f"ann:{USERS['ann']}"
        assert parse_user(text) == ("ann", USERS["ann"])
        for wrong in ("", "ann", "ann:", ":" + USERS["ann"], "ann:secret", f"a\nb:{USERS['ann']}"):
            with pytest.raises(ValueError, match="must be USER:HASH"):
                parse_user(wrong)
