"""Threaded: handlers that block, their responses, the bodies they make while they are sent, and clients that leave."""

from __future__ import annotations

import doctest
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import kaserve.handlers.middleware.threaded
from kaserve import Request, Response
from kaserve.handlers import Threaded
from kaserve.http.errors import HTTPError
from kaserve.http.handler import BaseHandler, HandlerResult
from tests.tools.hooks import respond
from tests.tools.server import PATIENCE, connect, get, post, serving, wait_for

RESET = socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)  # close() sends a RST


def test_the_examples_in_the_documentation() -> None:
    result = doctest.testmod(kaserve.handlers.middleware.threaded)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.fixture
def threaded() -> Iterator[Callable[..., Threaded]]:
    made: list[Threaded] = []

    def make(handler: Any, threads: int = 1, queue: int = 10) -> Threaded:
        made.append(Threaded(handler, threads, queue))
        return made[-1]

    yield make
    for each in made:
        each.close(PATIENCE)


class Blocking(BaseHandler):
    """A handler that blocks until the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.requests: list[Request] = []
        self.threads: set[str] = set()

    def __call__(self, request: Request) -> HandlerResult:
        self.requests.append(request)
        self.threads.add(threading.current_thread().name)
        self.begun.release()
        assert self.may_end.wait(PATIENCE)
        return Response.text(request.path)

    def wait(self) -> None:
        assert self.begun.acquire(timeout=PATIENCE)


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    handler = Blocking()
    yield handler
    handler.may_end.set()


def test_others_are_served_while_a_handler_blocks(threaded: Callable[..., Threaded], blocking: Blocking) -> None:
    handler = threaded(blocking, 2)
    with serving(handler) as server, connect(server) as one, connect(server) as two:
        one.send(get("/one"))
        two.send(get("/two"))
        blocking.wait()
        blocking.wait()
        blocking.may_end.set()
        assert (one.answer().body, two.answer().body) == (b"/one", b"/two")
    assert blocking.threads == {"kaserve worker 1", "kaserve worker 2"}


@pytest.mark.parametrize("queue", [0, 2])
def test_a_full_queue_is_a_503_with_retry_after(
    queue: int, threaded: Callable[..., Threaded], blocking: Blocking
) -> None:
    handler = threaded(blocking, 1, queue)
    with serving(handler) as server, connect(server) as first, connect(server) as client:
        waiting = [connect(server) for _ in range(queue)]
        first.send(get())
        blocking.wait()
        for each in waiting:
            each.send(get())
        wait_for(lambda: handler._workers._unfinished == 1 + queue)
        answer = client.ask()
        assert (answer.status, answer.value("retry-after"), answer.persists) == (503, "1", True)
        blocking.may_end.set()
        assert [each.answer().status for each in (first, *waiting)] == [200] * (1 + queue)
        wait_for(lambda: handler._workers._unfinished == 0)  # a thread counts down after it has responded
        assert client.ask().status == 200
        for each in waiting:
            each.close()


def test_a_request_whose_client_left_the_queue_is_not_begun(
    threaded: Callable[..., Threaded], blocking: Blocking
) -> None:
    handler = threaded(blocking)
    with serving(handler) as server, connect(server) as first:
        first.send(get("/first"))
        blocking.wait()
        leaving = connect(server)
        leaving.send(get("/left"))
        wait_for(lambda: handler._workers._unfinished == 2)
        leaving.sock.setsockopt(*RESET)
        leaving.close()
        wait_for(lambda: server.open_connections == 1)
        blocking.may_end.set()
        assert first.answer().body == b"/first"
        wait_for(lambda: handler._workers._unfinished == 0)
    assert [request.path for request in blocking.requests] == ["/first"]


def test_a_handler_can_see_that_its_client_has_left(threaded: Callable[..., Threaded], blocking: Blocking) -> None:
    with serving(threaded(blocking)) as server:
        leaving = connect(server)
        leaving.send(get())
        blocking.wait()
        leaving.sock.setsockopt(*RESET)
        leaving.close()
        wait_for(lambda: blocking.requests[0].disconnected)


def test_what_a_handler_raises(threaded: Callable[..., Threaded], caplog: pytest.LogCaptureFixture) -> None:
    errors = {"/http": HTTPError(418, "no"), "/value": ValueError(), "/exit": SystemExit(), "/stop": StopIteration()}

    def handler(request: Request) -> Response:
        raise errors[request.path]

    with serving(threaded(handler)) as server, connect(server) as client:
        assert [client.ask(path).status for path in errors] == [418, 500, 500, 500]
    assert len(caplog.records) == 3


def test_a_response_that_is_a_future(threaded: Callable[..., Threaded]) -> None:
    inner: Future[Response] = Future()
    begun = threading.Event()

    def handler(request: Request) -> HandlerResult:
        begun.set()
        return inner

    with serving(threaded(handler)) as server, connect(server) as client:
        client.send(get())
        assert begun.wait(PATIENCE)
        inner.set_result(Response.text("later"))
        assert client.answer().body == b"later"


def test_a_future_of_a_handler_is_cancelled_when_the_client_leaves(threaded: Callable[..., Threaded]) -> None:
    inner: Future[Response] = Future()
    cancelled = threading.Event()
    inner.add_done_callback(lambda done: cancelled.set())
    may_return, begun = threading.Event(), threading.Event()

    def handler(request: Request) -> HandlerResult:
        begun.set()
        assert may_return.wait(PATIENCE)
        return inner

    with serving(threaded(handler)) as server:
        client = connect(server)
        client.send(get())
        assert begun.wait(PATIENCE)
        client.sock.setsockopt(*RESET)
        client.close()
        wait_for(lambda: server.open_connections == 0)
        may_return.set()
        assert cancelled.wait(PATIENCE)
        assert inner.cancelled()


def is_awaited(future: Any) -> bool:
    return bool(future._done_callbacks)


class Pieces:
    """A body that notes on which thread it is made, and whether it was closed."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = iter(pieces)
        self.threads: set[str] = set()
        self.closed = threading.Event()

    def __iter__(self) -> Pieces:
        return self

    def __next__(self) -> Any:
        self.threads.add(threading.current_thread().name)
        piece = next(self.pieces)
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closed.set()


def test_a_body_is_made_on_the_threads(threaded: Callable[..., Threaded]) -> None:
    later: Future[bytes] = Future()
    body = Pieces(b"one ", b"", later, b" three")
    with serving(threaded(lambda request: Response(200, body))) as server, connect(server) as client:
        client.send(get())
        wait_for(lambda: is_awaited(later))
        later.set_result(b"two")
        assert client.answer().body == b"one two three"
        assert body.closed.wait(PATIENCE)
    assert body.threads == {"kaserve worker 1"}


def test_bodies_that_cannot_block_are_sent_as_they_are(threaded: Callable[..., Threaded]) -> None:
    for body in (b"ab", [b"a", b"b"], (b"a", b"b")):
        handler = threaded(lambda request, body=body: Response(200, body))
        future = handler(Request("GET", "/", 1, []))
        assert isinstance(future, Future)
        assert future.result(PATIENCE).body is body


def test_a_body_that_goes_on_while_the_queue_is_full(threaded: Callable[..., Threaded], blocking: Blocking) -> None:
    """Its next piece may wait, but is not rejected."""
    later: Future[bytes] = Future()

    def handler(request: Request) -> HandlerResult:
        return Response(200, Pieces(b"one", later, b"three")) if request.path == "/body" else blocking(request)

    made = threaded(handler, 1, 0)
    with serving(made) as server, connect(server) as client, connect(server) as other:
        client.send(get("/body"))
        wait_for(lambda: is_awaited(later))
        wait_for(lambda: made._workers._unfinished == 0)
        other.send(get())
        blocking.wait()
        later.set_result(b"two")
        wait_for(lambda: made._workers._unfinished == 2)
        blocking.may_end.set()
        assert client.answer().body == b"onetwothree"
        assert other.answer().status == 200


@pytest.mark.parametrize("error", [ValueError(), SystemExit()], ids=lambda error: type(error).__name__)
def test_a_body_that_fails_ends_the_connection(
    error: BaseException, threaded: Callable[..., Threaded], caplog: pytest.LogCaptureFixture
) -> None:
    body = Pieces(b"one", error)
    with serving(threaded(lambda request: Response(200, body))) as server, connect(server) as client:
        client.send(get())
        with pytest.raises((ConnectionResetError, AssertionError)):
            client.answer()
        assert body.closed.wait(PATIENCE)
        assert len(caplog.records) == 1
        with connect(server) as another:
            assert another.ask().status == 200


def test_a_body_is_closed_when_the_client_leaves(threaded: Callable[..., Threaded]) -> None:
    later: Future[bytes] = Future()
    body = Pieces(b"one", later)
    with serving(threaded(lambda request: Response(200, body))) as server:
        client = connect(server)
        client.send(get())
        wait_for(lambda: is_awaited(later))
        client.sock.setsockopt(*RESET)
        client.close()
        assert body.closed.wait(PATIENCE)
        assert later.cancelled()


def test_a_body_is_closed_even_if_the_threads_have_ended() -> None:
    body = Pieces(b"one")
    handler = Threaded(lambda request: Response(200, body), 1)
    result = handler(Request("GET", "/", 1, []))
    assert isinstance(result, Future)
    response: Any = result.result(PATIENCE)
    handler.close(PATIENCE)
    with pytest.raises(RuntimeError, match="have ended"):
        next(response.body)
    response.close()
    assert body.closed.is_set()


def test_the_body_of_a_request_can_be_read(threaded: Callable[..., Threaded]) -> None:
    handler = threaded(lambda request: Response.json(request.json()))
    with serving(handler) as server, connect(server) as client:
        client.send(post(b"[1]"))
        assert client.answer().body == b"[1]"


@pytest.mark.parametrize(("threads", "queue"), [(0, 1), (-1, 1), (1, -1)])
def test_numbers_that_are_too_small(threads: int, queue: int) -> None:
    with pytest.raises(ValueError, match="threads must be 1 or more and queue 0 or more"):
        Threaded(lambda request: Response(), threads, queue)


def test_threads_that_cannot_be_started(threaded: Callable[..., Threaded], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert respond(threaded(lambda request: Response()), Request("GET", "/", 1, [])).status == 503
