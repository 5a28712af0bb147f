"""BodyFile: the body of a request as a file, for a handler on a thread."""

from __future__ import annotations

import hashlib
import io
import socket
import struct
import tarfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from kaserve import BaseHandler, BodyStream, ClientDisconnected, Request, Response
from kaserve.handlers import BodyFile, Threaded
from kaserve.threads.body_file import _begin_read
from tests.tools.server import connect, post, serving, wait_for

CONTENT = bytes(range(256)) * 4000
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


class OnThread(BaseHandler):
    """Streams, and has a function respond."""

    streams = True

    def __init__(self, respond: Callable[[Request, BodyFile], Response]) -> None:
        self._respond = respond

    def __call__(self, request: Request) -> Response:
        return self._respond(request, BodyFile(request.stream))


def digest(request: Request, file: BodyFile) -> Response:
    return Response.text(hashlib.file_digest(file, "sha256").hexdigest())


@pytest.fixture
def errors() -> list[BaseException]:
    return []


def test_what_reads_files_can_read_an_upload() -> None:
    handler = Threaded(OnThread(digest), 2)
    expected = hashlib.sha256(CONTENT).hexdigest().encode()
    with serving(handler) as server, connect(server) as client:
        chunked = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(CONTENT), CONTENT)
        for wire in (post(CONTENT), chunked, post(CONTENT)):
            client.send(wire)
            assert client.answer().body == expected
        client.send(post(b""))
        assert client.answer().body == hashlib.sha256(b"").hexdigest().encode()
    handler.close()


def test_a_tar_archive_is_read_while_it_arrives() -> None:
    def names(request: Request, file: BodyFile) -> Response:
        with tarfile.open(fileobj=file, mode="r|*") as archive:
            return Response.text(" ".join(member.name for member in archive))

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name in ("one", "two"):
            member = tarfile.TarInfo(name)
            member.size = 100_000
            archive.addfile(member, io.BytesIO(bytes(100_000)))
    handler = Threaded(OnThread(names), 1)
    with serving(handler) as server, connect(server) as client:
        client.send(post(data.getvalue()))
        assert client.answer().body == b"one two"
    handler.close()


def test_an_echo_on_threads() -> None:
    def pieces(file: BodyFile) -> Iterator[bytes]:
        while piece := file.read1(5000):
            yield piece

    handler = Threaded(OnThread(lambda request, file: Response(200, pieces(file))), 2)
    with serving(handler) as server, connect(server) as client:
        for _ in range(2):
            client.send(post(CONTENT[:50_000]))
            assert client.answer().body == CONTENT[:50_000]
    handler.close()


def test_a_fault_in_the_body_is_raised_in_the_thread_and_becomes_the_response() -> None:
    handler = Threaded(OnThread(digest), 1)
    with serving(handler) as server, connect(server) as client:
        client.send(CHUNKED + b"5\r\nhello\r\nno\r\n")
        answer = client.answer()
        assert (answer.status, answer.persists) == (400, False)
    handler.close()


@pytest.mark.parametrize("end", ["client", "server"])
def test_a_thread_that_waits_is_woken_at_the_end(end: str, errors: list[BaseException]) -> None:
    begun = threading.Event()

    def respond(request: Request, file: BodyFile) -> Response:
        assert file.read(5) == b"01234"
        begun.set()
        for _ in range(2):
            try:
                file.read()
            except ClientDisconnected as error:
                errors.append(error)
        assert request.disconnected
        errors.append(ValueError("done"))
        return Response()

    handler = Threaded(OnThread(respond), 1)
    with serving(handler) as server:
        client = connect(server)
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01234")
        assert begun.wait(20)
        if end == "client":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            client.close()
            wait_for(lambda: len(errors) == 3)
    wait_for(lambda: len(errors) == 3)
    client.close()
    assert [type(error) for error in errors] == [ClientDisconnected, ClientDisconnected, ValueError]
    handler.close()


def test_the_own_thread_of_the_server_cannot_wait() -> None:
    class OnReactor(OnThread):
        def __call__(self, request: Request) -> Response:
            with pytest.raises(RuntimeError, match="cannot be read in the server's own thread"):
                BodyFile(request.stream).read()
            return Response.text("ok")

    with serving(OnReactor(digest)) as server, connect(server) as client:
        client.send(post(b"body"))
        assert client.answer().body == b"ok"


def test_another_thread_cannot_read_the_stream_itself() -> None:
    def respond(request: Request, file: BodyFile) -> Response:
        with pytest.raises(RuntimeError, match="BodyFile"):
            request.stream.read()
        return Response.text("ok")

    handler = Threaded(OnThread(respond), 1)
    with serving(handler) as server, connect(server) as client:
        client.send(post(b"body"))
        assert client.answer().body == b"ok"
    handler.close()


def test_a_body_that_has_been_received() -> None:
    """A handler that streams can be tested without a server."""
    request = Request("POST", "/", 1, [])
    request.body = io.BytesIO(CONTENT)
    file = BodyFile(request.stream)
    assert file.read(3) == CONTENT[:3]
    assert file.read() == CONTENT[3:]
    assert request.stream.read() == b""


class Stopped:
    """An owner whose thread has ended: it calls nothing any more."""

    def __init__(self) -> None:
        self.called = threading.Event()

    def is_own_thread(self) -> bool:
        return False

    def want_body(self, stream: BodyStream) -> None:
        raise AssertionError

    def call(self, function: Callable[[], object]) -> None:
        self.called.set()

    def wait(self, future: Future[Any]) -> Awaitable[Any]:
        raise AssertionError


@pytest.mark.parametrize("is_complete", [False, True])
def test_a_thread_does_not_wait_for_a_server_that_has_stopped(is_complete: bool) -> None:
    stream = BodyStream()
    owner = stream.owner = Stopped()
    results: list[Any] = []

    def read() -> None:
        try:
            results.append(BodyFile(stream).read(1))
        except ClientDisconnected as error:
            results.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert owner.called.wait(20)
    if is_complete:
        stream.finish()
    stream.abandon()
    thread.join(20)
    assert not thread.is_alive()
    assert results == [b""] if is_complete else isinstance(results[0], ClientDisconnected)
    assert stream.blocked == []


def test_a_call_that_comes_after_the_end_changes_nothing() -> None:
    stream = BodyStream()
    done: Future[bytes] = Future()
    done.set_result(b"")
    _begin_read(stream, 1, done)
    assert done.result(0) == b""
