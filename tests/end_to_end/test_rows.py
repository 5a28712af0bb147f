"""The rows of what this server is for, one by one, over real sockets: rows 1 to 10 and 12 of docs/keep-alive.md.

Where a row is about time, the clock of the server is one that the test moves, and nobody sleeps.
"""

from __future__ import annotations

import http.server
import os
import re
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaserve import FileSpan, HTTPError, Request, Response, Server
from kaserve.handlers import Files
from tests.tools.server import (
    DEMO,
    PATIENCE,
    Client,
    Driven,
    connect,
    echo,
    get,
    hello,
    post,
    request,
    serving,
    wait_for,
)
from tests.tools.wire import Answer

Handler = Callable[[Request], Response]


def name_of(request: Request) -> Response:
    return Response.text(request.path)


def pieces(request: Request) -> Response:
    """A body of unknown length."""
    return Response(200, iter([b"Wiki", b"", b"pedia ", b"in \r\n\r\nchunks."]))


def keep_alive_of(answer: Answer) -> tuple[str, ...]:
    """Connection, and Keep-Alive if there is one."""
    return answer.value("connection"), *answer.values("keep-alive")


class TestRow1OneConnectionManyRequests:
    """RFC 9112 §9.3: HTTP/1.1 persists by default, and `Connection: close` ends it."""

    def test_several_resources_over_one_socket(self) -> None:
        with serving(name_of) as server, connect(server) as client:
            for path in ("/index.html", "/style.css", "/app.js", "/tiles/1.svg", "/tiles/2.svg"):
                assert client.ask(path).body == path.encode()
            assert (server.stats.accepted, server.stats.requests) == (1, 5)

    @pytest.mark.parametrize(
        "fields",
        [
            ["Connection: close"],
            ["Connection: Close"],
            ["CONNECTION:CLOSE"],
            ["connection: keep-alive, close"],
            ["Connection: x-one ,\tcLoSe , x-two"],
            ["Connection: keep-alive", "Connection: close"],
            ["Connection: close", "Connection: keep-alive"],
        ],
        ids=" | ".join,
    )
    def test_close_ends_it(self, fields: list[str]) -> None:
        with serving() as server, connect(server) as client:
            assert client.ask().persists
            answer = client.ask("/", *fields)
            assert (answer.body, keep_alive_of(answer)) == (b"hello", ("close",))
            assert client.is_closed

    @pytest.mark.parametrize(
        "field", ["Connection: closed", "Connection: x-close", 'Connection: "close"', "Close: yes"]
    )
    def test_what_only_looks_like_close_does_not(self, field: str) -> None:
        with serving() as server, connect(server) as client:
            assert client.ask("/", field).persists
            assert client.ask().status == 200

    def test_a_handler_may_end_it_as_well(self) -> None:
        with (
            serving(lambda _: Response(200, b"bye", [("Connection", "Close")])) as server,
            connect(server) as client,
        ):
            assert keep_alive_of(client.ask()) == ("close",)
            assert client.is_closed


class TestRow2HTTP10:
    """RFC 9112 §9.3, appendix C.2.2: HTTP/1.0 closes, unless both sides say otherwise."""

    def test_closes_by_default(self) -> None:
        with serving() as server, connect(server) as client:
            answer = client.ask(version="1.0")
            assert (answer.body, keep_alive_of(answer)) == (b"hello", ("close",))
            assert client.is_closed

    @pytest.mark.parametrize("field", ["Connection: Keep-Alive", "connection: x, KEEP-ALIVE"])
    def test_persists_on_request_and_says_so(self, field: str) -> None:
        with serving() as server, connect(server) as client:
            for left in (999, 998, 997):
                answer = client.ask("/", field, version="1.0")
                assert answer.body == b"hello"
                assert keep_alive_of(answer) == ("keep-alive", f"timeout=120, max={left}")

    def test_close_beats_keep_alive(self) -> None:
        with serving() as server, connect(server) as client:
            assert not client.ask("/", "Connection: keep-alive, close", version="1.0").persists
            assert client.is_closed

    def test_both_versions_on_one_connection(self) -> None:
        with serving() as server, connect(server) as client:
            assert client.ask("/", "Connection: keep-alive", version="1.0").persists
            assert client.ask().persists
            assert not client.ask(version="1.0").persists
            assert client.is_closed

    def test_a_server_of_http_10_does_so_with_everybody(self) -> None:
        with serving(protocol="HTTP/1.0") as server, connect(server) as client:
            assert (answer := client.ask("/", "Connection: keep-alive")).persists
            assert answer.minor == 0
            assert not client.ask().persists
            assert client.is_closed


class TestRow3TimeoutAndMax:
    """The countdown that every persistent answer announces, and the two ways in which it ends."""

    def test_the_countdown_ends_with_close(self) -> None:
        with serving(keep_alive=7, keep_alive_requests=4) as server, connect(server) as client:
            told = [keep_alive_of(client.ask()) for _ in range(4)]
            assert told == [
                ("keep-alive", "timeout=7, max=3"),
                ("keep-alive", "timeout=7, max=2"),
                ("keep-alive", "timeout=7, max=1"),
                ("close",),
            ]
            assert client.is_closed

    def test_each_connection_counts_for_itself(self) -> None:
        with serving(keep_alive_requests=10) as server, connect(server) as one, connect(server) as two:
            assert [keep_alive_of(client.ask())[1] for client in (one, one, two, one)] == [
                "timeout=120, max=9",
                "timeout=120, max=8",
                "timeout=120, max=9",
                "timeout=120, max=7",
            ]

    def test_any_number_of_requests_has_no_max(self) -> None:
        with serving(keep_alive_requests=0) as server, connect(server) as client:
            assert {keep_alive_of(client.ask()) for _ in range(50)} == {("keep-alive", "timeout=120")}

    def test_an_idle_connection_closes_a_little_after_the_time_it_announced(self) -> None:
        with Driven(keep_alive=5) as driven:
            client = driven.connect()
            assert keep_alive_of(client.ask()) == ("keep-alive", "timeout=5, max=999")
            driven.pass_time(5.0)
            assert client.ask().persists  # it was told that it may
            driven.pass_time(5.9)
            assert client.is_quiet
            driven.pass_time(0.3)
            assert client.is_closed  # and not a 408
            client.close()
            driven.settle()
            assert driven.server.stats.closed == {"idle": 1}

    def test_each_answer_starts_the_time_anew(self) -> None:
        with Driven(keep_alive=5) as driven:
            client = driven.connect()
            for _ in range(10):
                assert client.ask().persists
                driven.pass_time(4.0)
            assert client.is_quiet

    def test_a_connection_without_any_request_is_idle_too(self) -> None:
        with Driven(keep_alive=5) as driven:
            client = driven.connect()
            driven.pass_time(6.3)
            assert client.is_closed

    def test_a_request_that_is_here_when_the_time_is_over_is_answered_as_the_last_one(self) -> None:
        with Driven(keep_alive=5) as driven:
            client = driven.connect()
            assert client.ask().persists
            driven.settle()
            driven.clock.advance(60.0)
            client.send(get())
            assert client.answer().status == 200
            assert driven.server.stats.races_lost == 0

    def test_age_is_spent_on_an_answer(self) -> None:
        with Driven(keep_alive_time=60, keep_alive=120) as driven:
            client = driven.connect()
            assert client.ask().persists
            driven.pass_time(59.0)
            assert client.ask().persists
            driven.pass_time(1.0)
            assert client.is_quiet  # nobody closes an idle connection for its age
            assert keep_alive_of(client.ask()) == ("close",)
            assert client.is_closed

    def test_a_time_of_zero_switches_persistence_off(self) -> None:
        with serving(keep_alive=0) as server, connect(server) as client:
            assert keep_alive_of(client.ask()) == ("close",)
            assert client.is_closed


class TestRow4Length:
    """RFC 9112 §6.2: Content-Length both ways."""

    @pytest.mark.parametrize("size", [0, 1, 255, 65536, 300_000])
    def test_both_ways(self, size: int) -> None:
        body = bytes(range(256)) * (size // 256) + bytes(size % 256)
        with serving(echo) as server, connect(server) as client:
            for _ in range(2):
                (answer,) = client.exchange(post(body))
                assert answer.value("content-length") == str(size)
                assert (answer.framing, answer.body == body) == ("length", True)

    def test_a_span_of_a_file(self, tmp_path: Path) -> None:
        content = bytes(range(256)) * 2000
        (tmp_path / "large.bin").write_bytes(content)
        with closing(Files(tmp_path)) as files, serving(files) as server, connect(server) as client:
            for _ in range(2):
                answer = client.ask("/large.bin")
                assert (answer.framing, answer.body == content) == ("length", True)

    def test_a_body_in_pieces_with_a_length_of_its_own(self) -> None:
        def counted(request: Request) -> Response:
            return Response(200, iter([b"12", b"345"]), [("Content-Length", "5")])

        with serving(counted) as server, connect(server) as client:
            assert [client.ask().body for _ in range(2)] == [b"12345", b"12345"]

    def test_too_few_bytes_are_not_passed_over_in_silence(self) -> None:
        def short(request: Request) -> Response:
            return Response(200, iter([b"12"]), [("Content-Length", "5")])

        with serving(short) as server, connect(server) as client:
            client.send(get())
            with pytest.raises((ConnectionResetError, AssertionError)):
                client.answer()
            wait_for(lambda: server.stats.failed == 1)

    def test_too_many_bytes_do_not_leak_into_the_next_answer(self) -> None:
        def long(request: Request) -> Response:
            return Response(200, iter([b"123", b"456789"]), [("Content-Length", "5")])

        with serving(long) as server, connect(server) as client:
            assert [client.ask().body for _ in range(3)] == [b"12345"] * 3

    def test_a_wrong_length_for_known_bytes_is_a_fault_of_the_handler(self) -> None:
        def wrong(request: Request) -> Response:
            return Response(200, b"123", [("Content-Length", "5")])

        with serving(wrong) as server, connect(server) as client:
            assert client.ask().status == 500
            assert client.ask().status == 500  # nothing of the wrong answer was sent: the connection stays

    def test_a_file_that_shrinks_ends_the_connection(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"x" * 1000)

        def shrinking(request: Request) -> Response:
            span = FileSpan(os.open(path, os.O_RDONLY), 0, 1000)
            path.write_bytes(b"x" * 400)
            return Response(200, span)

        with serving(shrinking) as server, connect(server) as client:
            client.send(get())
            with pytest.raises((ConnectionResetError, AssertionError)):
                client.answer()


class TestRow5Chunks:
    """RFC 9112 §7.1: chunks both ways."""

    WIKIPEDIA = b"4\r\nWiki\r\n6\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\n"

    def test_the_example_exactly(self) -> None:
        with serving(echo) as server, connect(server) as client:
            (answer,) = client.exchange(request("POST", "/", "Transfer-Encoding: chunked") + self.WIKIPEDIA)
            assert answer.body == b"Wikipedia in \r\n\r\nchunks."
            assert answer.value("content-length") == str(4 + 6 + 0xE)  # the sum of the sizes is the length of the body
            assert client.ask().status == 200

    def test_the_example_byte_by_byte(self) -> None:
        with Driven(echo) as driven:
            client = driven.connect()
            for byte in request("POST", "/", "Transfer-Encoding: chunked") + self.WIKIPEDIA:
                client.send(bytes([byte]))
                driven.server.step(0.01)
            assert client.answer().body == b"Wikipedia in \r\n\r\nchunks."

    @settings(max_examples=30)
    @given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=6), st.booleans())
    def test_any_sizes(self, chunks: list[bytes], upper: bool) -> None:
        size = b"%X" if upper else b"%x"
        body = b"".join(b"%b\r\n%b\r\n" % (size % len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        with Driven(echo) as driven:
            client = driven.connect()
            (answer,) = client.exchange(request("POST", "/", "Transfer-Encoding: chunked") + body)
            assert answer.body == b"".join(chunks)

    def test_a_chunk_of_a_megabyte(self) -> None:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (1 << 20, b"m" * (1 << 20))
        with serving(echo) as server, connect(server) as client:
            (answer,) = client.exchange(request("POST", "/", "Transfer-Encoding: chunked") + body)
            assert answer.body == b"m" * (1 << 20)

    def test_extensions_are_ignored(self) -> None:
        with serving(echo) as server, connect(server) as client:
            body = b'3;a\r\nabc\r\n2 ; b=1;c="q\\";d"\r\nde\r\n0;last\r\n\r\n'
            (answer,) = client.exchange(request("POST", "/", "Transfer-Encoding: chunked") + body)
            assert answer.body == b"abcde"

    def test_trailers_are_exposed_and_never_become_fields(self) -> None:
        seen: list[Request] = []

        def look(request: Request) -> Response:
            seen.append(request)
            return hello(request)

        with serving(look) as server, connect(server) as client:
            body = b"3\r\nabc\r\n0\r\nX-Checksum: 900150\r\nContent-Length: 7\r\nHost: evil\r\n\r\n"
            (answer,) = client.exchange(
                request("POST", "/", "Transfer-Encoding: chunked", "Trailer: X-Checksum") + body
            )
            assert answer.persists
        assert seen[0].trailers == [("x-checksum", "900150")]
        assert "x-checksum" not in seen[0].headers
        assert seen[0].headers["host"] == "h"

    def test_a_body_of_unknown_length_is_streamed_in_chunks(self) -> None:
        with serving(pieces) as server, connect(server) as client:
            for _ in range(2):
                answer = client.ask()
                assert (answer.framing, answer.persists) == ("chunked", True)
                assert answer.body == b"Wikipedia in \r\n\r\nchunks."

    def test_each_chunk_leaves_when_it_is_there(self) -> None:
        """And is pulled only when the one before has left: the buffer is small, however long the body is."""
        pulled = 0

        def endless(request: Request) -> Response:
            def body() -> Iterator[bytes]:
                nonlocal pulled
                while True:
                    pulled += 1
                    yield b"x" * 65536

            return Response(200, body())

        with Driven(endless) as driven:
            client = driven.connect()
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.send(get())
            driven.settle()  # it comes to rest, since the client does not read
            before = pulled
            assert 1 <= before < 200
            driven.settle()
            assert pulled == before


class TestRow6Closing:
    """RFC 9112 §6.3 step 8: only for HTTP/1.0, and never for a request."""

    def test_an_answer_of_unknown_length_to_http_10(self) -> None:
        with serving(pieces) as server, connect(server) as client:
            answer = client.ask("/", "Connection: keep-alive", version="1.0")
            assert (answer.framing, answer.persists) == ("close", False)
            assert answer.body == b"Wikipedia in \r\n\r\nchunks."

    def test_an_answer_of_known_length_is_not_delimited_by_the_close(self) -> None:
        with serving() as server, connect(server) as client:
            assert client.ask(version="1.0").framing == "length"

    def test_a_request_without_a_length_has_no_body(self) -> None:
        with serving(echo) as server, connect(server) as client:
            client.send(request("POST", "/") + get("/next"))
            assert client.answer().body == b""
            assert client.answer().status == 200

    def test_a_request_that_ends_before_its_length_is_an_error(self) -> None:
        with serving(echo) as server, connect(server) as client:
            client.send(post(b"12345")[:-1])
            client.finish()
            answer = client.answer("POST")
            assert (answer.status, answer.persists) == (400, False)


class TestRow7WhichRuleWins:
    """RFC 9112 §6.1 and §6.3: no body at all; then Transfer-Encoding; then Content-Length."""

    @pytest.mark.parametrize(
        "fields",
        [
            ("Transfer-Encoding: chunked", "Content-Length: 3"),
            ("Content-Length: 3", "Transfer-Encoding: chunked"),
            ("content-length: 99999999", "TRANSFER-ENCODING: Chunked"),
        ],
        ids=" | ".join,
    )
    def test_transfer_encoding_wins_content_length_disappears_and_the_connection_closes(
        self, fields: tuple[str, ...]
    ) -> None:
        seen: list[Request] = []

        def look(request: Request) -> Response:
            seen.append(request)
            return echo(request)

        with serving(look) as server, connect(server) as client:
            smuggled = get("/smuggled")
            client.send(request("POST", "/", *fields) + TestRow5Chunks.WIKIPEDIA + smuggled)
            answer = client.answer("POST")
            assert (answer.status, answer.body) == (200, b"Wikipedia in \r\n\r\nchunks.")
            assert keep_alive_of(answer) == ("close",)
            assert client.is_closed
        assert [each.target for each in seen] == ["/"]
        assert "content-length" not in seen[0].headers
        assert seen[0].content_length is None

    def test_transfer_encoding_of_http_10_is_answered_and_the_connection_closes(self) -> None:
        with serving(echo) as server, connect(server) as client:
            head = request("POST", "/", "Transfer-Encoding: chunked", "Connection: keep-alive", version="1.0")
            client.send(head + TestRow5Chunks.WIKIPEDIA)
            answer = client.answer("POST")
            assert (answer.status, keep_alive_of(answer)) == (200, ("close",))
            assert client.is_closed

    @pytest.mark.parametrize("handler", [hello, pieces])
    def test_an_answer_to_head_has_no_body(self, handler: Handler) -> None:
        with serving(handler) as server, connect(server) as client:
            length = client.ask(method="HEAD").values("content-length")
            assert length == (["5"] if handler is hello else [])
            assert client.ask().body  # the next answer begins right behind the head of the one before

    @pytest.mark.parametrize("status", [204, 304])
    @pytest.mark.parametrize("body", [b"", b"not to be sent"])
    def test_nor_have_204_and_304(self, status: int, body: bytes) -> None:
        with serving(lambda _: Response(status, body)) as server, connect(server) as client:
            for _ in range(3):
                answer = client.ask()
                assert (answer.status, answer.persists) == (status, True)

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            (["Content-Length: 3", "Content-Length: 4"], 400),
            (["Content-Length: +3"], 400),
            (["Content-Length: 3, 3"], 400),
            (["Transfer-Encoding: chunked, chunked"], 400),
            (["Transfer-Encoding: chunked, gzip"], 400),
            (["Transfer-Encoding: gzip, chunked"], 501),
        ],
        ids=str,
    )
    def test_an_end_that_cannot_be_determined_is_an_error(self, fields: list[str], status: int) -> None:
        with serving(echo) as server, connect(server) as client:
            client.send(request("POST", "/", *fields) + b"abc")
            answer = client.answer("POST")
            assert (answer.status, answer.persists) == (status, False)
            assert client.is_closed

    def test_a_handler_may_insist_on_a_length(self) -> None:
        def insist(request: Request) -> Response:
            return Response.text(str(request.require_length()))

        with serving(insist) as server, connect(server) as client:
            assert client.exchange(post(b"12345"))[0].body == b"5"
            client.send(request("POST", "/", "Transfer-Encoding: chunked") + TestRow5Chunks.WIKIPEDIA)
            answer = client.answer("POST")
            assert (answer.status, answer.persists) == (411, True)


class TestRow8Pipelining:
    """RFC 9112 §9.3.2: many requests at once, answered in order."""

    def test_in_order(self) -> None:
        with serving(name_of) as server, connect(server) as client:
            answers = client.exchange(*(get(f"/{number}") for number in range(300)))
            assert [answer.body for answer in answers] == [b"/%d" % number for number in range(300)]
            assert server.stats.accepted == 1

    def test_with_bodies_and_across_chunked_ones(self) -> None:
        chunked = request("POST", "/", "Transfer-Encoding: chunked") + TestRow5Chunks.WIKIPEDIA
        with serving(echo) as server, connect(server) as client:
            answers = client.exchange(
                post(b"one"), chunked, get(), post(b"GET / HTTP/1.1\r\n\r\n"), chunked, post(b"six")
            )
            assert [answer.body for answer in answers] == [
                b"one",
                b"Wikipedia in \r\n\r\nchunks.",
                b"",
                b"GET / HTTP/1.1\r\n\r\n",
                b"Wikipedia in \r\n\r\nchunks.",
                b"six",
            ]

    def test_answers_of_every_kind(self, tmp_path: Path) -> None:
        large = bytes(range(256)) * 4000
        (tmp_path / "large").write_bytes(large)
        files = Files(tmp_path)

        def either(request: Request) -> Response:
            return files(request) if request.path == "/large" else pieces(request)

        with closing(files), serving(either) as server, connect(server) as client:
            head = request("HEAD", "/large")
            answers = client.exchange(get("/large"), get(), head, get("/large"), get(), get("/large"))
            sizes = [len(answer.body) for answer in answers]
            assert sizes == [len(large), 24, 0, len(large), 24, len(large)]

    @pytest.mark.parametrize("cuts", [1, 7, 64, 1000])
    def test_however_the_stream_is_cut(self, cuts: int) -> None:
        chunked = request("POST", "/", "Transfer-Encoding: chunked") + TestRow5Chunks.WIKIPEDIA
        wire = (post(b"one") + chunked + get()) * 3
        with Driven(echo) as driven:
            client = driven.connect()
            for start in range(0, len(wire), cuts):
                client.send(wire[start : start + cuts])
                driven.server.step(0.01)
            bodies = [client.answer("POST").body for _ in range(9)]
            assert bodies == [b"one", b"Wikipedia in \r\n\r\nchunks.", b""] * 3

    def test_nothing_is_answered_after_a_close(self) -> None:
        with serving(name_of) as server, connect(server) as client:
            client.send(get("/1") + get("/2", "Connection: close") + get("/3") + get("/4"))
            assert [client.answer().body, client.answer().body] == [b"/1", b"/2"]
            assert client.is_closed
            assert server.stats.requests == 2

    def test_a_good_request_is_answered_before_a_bad_one_is_refused(self) -> None:
        with serving(name_of) as server, connect(server) as client:
            client.send(get("/good") + b"BAD\r\n\r\n" + get("/never"))
            assert client.answer().body == b"/good"
            assert client.answer().status == 400
            assert client.is_closed

    def test_requests_to_a_client_that_has_said_all(self) -> None:
        with serving(name_of) as server, connect(server) as client:
            client.send(get("/1") + get("/2"))
            client.finish()
            assert [client.answer().body, client.answer().body] == [b"/1", b"/2"]
            assert client.is_closed


class TestRow9OneSlowClientStopsNobody:
    """Persistent connections need no threads; a server that waits for one client at a time needs them."""

    def test_the_two_browsers_experiment(self, tmp_path: Path) -> None:
        (tmp_path / "page").write_bytes(b"page")
        (tmp_path / "large").write_bytes(bytes(8 << 20))
        finished = threading.Event()
        with ExitStack() as stack:
            server = stack.enter_context(serving(stack.enter_context(closing(Files(tmp_path)))))

            holds, sends_slowly, fourth = (stack.enter_context(connect(server)) for _ in range(3))
            assert holds.ask("/page").persists

            def send_slowly() -> None:
                for byte in get("/page", "X-Slow: " + "a" * 8000):
                    sends_slowly.send(bytes([byte]))
                    if finished.wait(0.002):
                        break

            reads_slowly = socket.socket()
            stack.enter_context(reads_slowly)
            reads_slowly.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            assert isinstance(server.address, tuple)
            reads_slowly.connect(server.address)
            reads_slowly.sendall(get("/large"))

            def read_slowly() -> None:
                while not finished.wait(0.002):
                    reads_slowly.recv(1024)

            threads = [threading.Thread(target=send_slowly), threading.Thread(target=read_slowly)]
            for thread in threads:
                thread.start()
            try:
                bodies = [fourth.ask("/page").body for _ in range(200)]
            finally:
                finished.set()
                for thread in threads:
                    thread.join()
            assert bodies == [b"page"] * 200
            assert server.open_connections == 4  # they are all still there
            assert holds.ask("/page").body == b"page"

    def test_where_connections_are_served_one_by_one_the_second_browser_waits(self) -> None:
        """The counter-proof: http.server without threads answers nobody else while a connection is held open."""

        class Quiet(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Connection", "keep-alive")
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"hello")

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            address = ("127.0.0.1", server.server_port)
            try:
                with connect(address) as first, connect(address) as second:
                    assert first.ask().persists
                    second.send(get())
                    second.sock.settimeout(0.5)
                    with pytest.raises(TimeoutError):
                        second.answer()
                    first.close()
                    second.sock.settimeout(PATIENCE)
                    assert second.answer().body == b"hello"
            finally:
                server.shutdown()
                thread.join()

    def test_a_thousand_connections_and_one_thread(self, many_descriptors: None) -> None:
        with ExitStack() as stack:
            server = stack.enter_context(serving(name_of))
            threads = threading.active_count()
            clients = [stack.enter_context(connect(server)) for _ in range(1000)]
            for round_ in range(2):
                for number, client in enumerate(clients):
                    client.send(get(f"/{round_}/{number}"))
                for number, client in enumerate(clients):
                    assert client.answer().body == b"/%d/%d" % (round_, number)
            assert server.open_connections == server.stats.accepted == 1000
            assert threading.active_count() == threads


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """A descriptor limit that a thousand connections fit under, both ends of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestRow10ShutdownMode:
    """Once draining, every answer is its connection's last one, idle connections close, and running requests finish."""

    def test_a_running_request_finishes(self) -> None:
        with Driven(echo) as driven:
            client = driven.connect()
            client.send(post(b"12345")[:-2])
            driven.settle()
            driven.server.shutdown()
            driven.settle()
            client.send(b"45")
            answer = client.answer("POST")
            assert (answer.body, keep_alive_of(answer)) == (b"12345", ("close",))
            assert client.is_closed

    def test_an_answer_that_is_being_sent_is_sent_to_its_end(self) -> None:
        size = 8 << 20
        with Driven(lambda _: Response(200, bytes(size))) as driven:
            client = driven.connect()
            client.send(get())
            driven.settle()
            driven.server.shutdown()
            driven.settle()
            assert len(client.answer().body) == size

    def test_every_answer_says_close(self) -> None:
        with Driven(name_of) as driven:
            clients = [driven.connect() for _ in range(5)]
            for client in clients:
                client.send(get("/last")[:-2])
            driven.settle()
            driven.server.shutdown()
            driven.settle()
            for client in clients:
                client.send(b"\r\n")
                answer = client.answer()
                assert (answer.body, keep_alive_of(answer)) == (b"/last", ("close",))
                assert client.is_closed

    def test_idle_connections_close(self) -> None:
        with Driven() as driven:
            client = driven.connect()
            assert client.ask().persists
            driven.pass_time(10.0)
            driven.server.shutdown()
            driven.settle()
            assert client.is_closed

    def test_one_that_was_busy_a_moment_ago_gets_a_window_for_one_more(self) -> None:
        with Driven() as driven:
            client, silent = driven.connect(), driven.connect()
            assert client.ask().persists
            assert silent.ask().persists
            driven.server.shutdown()
            driven.settle()
            assert client.is_quiet
            assert keep_alive_of(client.ask()) == ("close",)
            assert client.is_closed
            driven.pass_time(1.2)
            assert silent.is_closed

    def test_clients_in_the_backlog_are_not_forgotten(self) -> None:
        with Driven() as driven:
            client = connect(driven.server, driven.turn)
            with client:
                client.send(get())
                driven.server.shutdown()
                answer = client.answer()
                assert answer.status == 200
                driven.settle()
                assert driven.server.stats.accepted == 1

    def test_nobody_is_let_in_any_more(self) -> None:
        with Driven() as driven:
            driven.connect()
            driven.server.shutdown()
            address = driven.server.address
            driven.settle()
            with pytest.raises(ConnectionRefusedError):
                connect(address)

    def test_keep_alive_off_and_on_while_running(self) -> None:
        with serving() as server:
            with connect(server) as client:
                assert client.ask().persists
                server.keep_alive = False
                assert not server.keep_alive
                assert keep_alive_of(client.ask()) == ("close",)
                assert client.is_closed
            with connect(server) as client:
                assert keep_alive_of(client.ask()) == ("close",)
            server.keep_alive = True
            with connect(server) as client:
                assert client.ask().persists
                assert client.ask().persists

    def test_draining_cannot_be_switched_off(self) -> None:
        with Driven() as driven:
            client = driven.connect()
            client.send(get()[:-2])
            driven.settle()
            driven.server.shutdown()
            driven.settle()
            driven.server.keep_alive = True
            client.send(b"\r\n")
            assert not client.answer().persists


class TestRow12FewerConnections:
    """The same page over one connection, and over one per resource."""

    @pytest.fixture
    def page(self) -> list[str]:
        """The page of demo/ and what it needs."""
        text = (DEMO / "index.html").read_text()
        return ["/", *("/" + link for link in re.findall(r'(?:src|href)="([^"]*\.(?:css|js|svg))"', text))]

    @staticmethod
    def load(client: Client, server: Server, target: str, *fields: str) -> bytes:
        answer = client.ask(target, *fields)
        assert answer.status == 200
        return answer.body

    def test_one_connection_or_one_each(self, page: list[str]) -> None:
        assert len(page) >= 43
        with closing(Files(DEMO)) as files:
            with serving(files) as server, connect(server) as client:
                over_one = [self.load(client, server, target) for target in page]
                assert (server.stats.accepted, server.stats.requests) == (1, len(page))
            with serving(files) as server:
                over_many = []
                for target in page:
                    with connect(server) as client:
                        over_many.append(self.load(client, server, target, "Connection: close"))
                        assert client.is_closed
                assert (server.stats.accepted, server.stats.requests) == (len(page), len(page))
        assert over_one == over_many


def test_a_connection_outlives_errors_but_not_one_that_closes_it() -> None:
    def handler(request: Request) -> Response:
        if request.path == "/fault":
            raise RuntimeError("a fault")
        raise HTTPError(418, "no coffee", close=request.path == "/last")

    with serving(handler) as server, connect(server) as client:
        fault = client.ask("/fault")
        assert (fault.status, keep_alive_of(fault)[0]) == (500, "keep-alive")
        assert b"a fault" not in fault.body
        error = client.ask("/error")
        assert (error.status, keep_alive_of(error)[0]) == (418, "keep-alive")
        last = client.ask("/last")
        assert (last.status, keep_alive_of(last)) == (418, ("close",))
        assert client.is_closed
