"""The conversation: the corpus in every way it can arrive, responses and what they say, and any bytes at all.

The corpus holds what bytes from a client must mean; here is how they are sent, and all that the corpus cannot say.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaserve.http.headers import FLAGS, HOP_BY_HOP, TRANSFER_ENCODING
from tests.tools.wire import (
    DATE,
    IMPLEMENTATIONS,
    Answer,
    Case,
    Implementation,
    Outcome,
    Seen,
    at_random,
    bytewise,
    converse,
    cut,
    held,
    load_corpus,
    new_outgoing,
    read_answers,
    send,
    take_turn,
    whole,
)

more_examples = settings(max_examples=3 * settings().max_examples)  # of the profile that was chosen, see conftest.py
each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)

CASES = load_corpus()
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


# The corpus.

# Valid requests before a case on the same connection, and what they mean.
FRONTS = {
    "alone": (b"", ()),
    "after a GET": (b"GET /good HTTP/1.1\r\nHost: h\r\n\r\n", (Seen(target="/good", path="/good"),)),
    "after chunks": (CHUNKED + b"2\r\nok\r\n0\r\nA: b\r\n\r\n", (Seen("POST", body="ok", trailers=(("a", "b"),)),)),
}


def cut_at_random(wire: bytes) -> list[bytes]:
    return at_random(wire, random.Random(wire))


def run(implementation: Implementation, case: Case, way: Callable[[bytes], list[bytes]], front: str = "alone") -> None:
    before, seen = FRONTS[front]
    limits = implementation.limits(**dict(case.limits))
    case.check(converse(implementation, way(before + case.wire), eof=case.eof, limits=limits), seen)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_corpus_in_one_piece(implementation: Implementation, case: Case) -> None:
    run(implementation, case, whole)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_corpus_byte_by_byte(implementation: Implementation, case: Case) -> None:
    run(implementation, case, bytewise)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_corpus_cut_at_random(implementation: Implementation, case: Case) -> None:
    run(implementation, case, cut_at_random)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_corpus_pipelined(implementation: Implementation, case: Case) -> None:
    """A valid request gets its response, whatever follows it in the same segment (RFC 9112 §9.3.2)."""
    for front in ("after a GET", "after chunks"):
        run(implementation, case, whole, front)
        run(implementation, case, cut_at_random, front)


def test_corpus_is_large_and_its_names_are_unique() -> None:
    assert len(CASES) > 900
    assert len({str(case) for case in CASES}) == len(CASES)


def test_every_case_names_its_section() -> None:
    assert [str(case) for case in CASES if "§" not in case.rfc] == []


@pytest.mark.parametrize("case", [case for case in CASES if case.error is None and not case.limits], ids=str)
def test_no_beginning_of_a_valid_case_is_rejected(implementation: Implementation, case: Case) -> None:
    """Whatever part of it arrives first, the rest may still come."""
    if len(case.wire) < 1000:
        for end in range(1, len(case.wire)):
            assert converse(implementation, [case.wire[:end]]).error is None, case.wire[:end]


# Any bytes.

NEARLY_HTTP = st.lists(
    st.sampled_from(
        [
            *(b"GET", b"POST", b"HEAD", b" ", b"/", b"*", b"http://a", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"),
            *(b"\r\n", b"\r", b"\n", b":", b"\x00", b"\xe9", b"a", b"0", b"5", b"hello", b"\t", b",", b";", b'"'),
            *(
                b"Host: h\r\n",
                b"Host",
                b"Content-Length: 5\r\n",
                b"Content-Length: ",
                b"Transfer-Encoding: chunked\r\n",
            ),
            *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n", b"X: y\r\n"),
            *(
                GET,
                OLD,
                HEAD,
                POST,
                POST + b"hello",
                CHUNKED,
                CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
                b"GET / HTTP/1.1\r\n",
            ),
            *(b"5\r\nhello\r\n", b"0\r\n", b"0\r\n\r\n", b"\r\n\r\n"),
        ]
    ),
    max_size=24,
).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Cases of the corpus one after the other, with a few bytes changed, added or removed."""
    cases = draw(st.lists(st.sampled_from(SHORT_CASES), min_size=1, max_size=3))
    wire = bytearray(b"".join(case.wire for case in cases))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(wire)))
        wire[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(wire)


SHORT_CASES = [case for case in CASES if len(case.wire) < 300]
STREAMS = NEARLY_HTTP | mutated() | st.binary(max_size=200)
PLACES = st.lists(st.integers(min_value=0, max_value=300), max_size=12).map(sorted)


@more_examples
@given(stream=STREAMS, places=PLACES, eof=st.booleans())
@each_implementation
def test_any_bytes_have_the_same_outcome_in_any_pieces(
    implementation: Implementation, stream: bytes, places: list[int], eof: bool
) -> None:
    """It raises nothing but HTTPError, ends in a phase of the table, and responds the same however they are cut."""
    outcome = converse(implementation, whole(stream), eof=eof)
    assert outcome.phase in ("IDLE", "HEAD", "BODY", "LINGER", "CLOSED")
    assert not eof or outcome.phase in ("LINGER", "CLOSED")  # it does not wait for a client that has left
    assert outcome.error is None or 400 <= outcome.error < 600
    assert outcome.phase == "LINGER" or (outcome.error is None and all(seen.persists for seen in outcome.requests))
    methods = [seen.method for seen in outcome.requests]
    if outcome.error:
        methods.append("HEAD" if outcome.output.endswith(b"\r\n\r\n") else "GET")
    assert len(read_answers(outcome.output, methods)) == len(methods)
    for pieces in (cut(stream, places), bytewise(stream)):
        assert meaning(converse(implementation, pieces, eof=eof)) == meaning(outcome)


def meaning(outcome: Outcome) -> tuple[list[Seen], int | None, str]:
    """All but the text of an error, which depends on how much of a malformed line had arrived when it was noticed."""
    return outcome.requests, outcome.error, outcome.phase


@more_examples
@given(stream=STREAMS, eof=st.booleans())
def test_all_implementations_respond_alike(stream: bytes, eof: bool) -> None:
    first, *others = [converse(implementation, whole(stream), eof=eof) for implementation in IMPLEMENTATIONS]
    assert all(other == first for other in others)


@given(cases=st.lists(st.sampled_from([case for case in SHORT_CASES if case.phase == "IDLE"]), max_size=6))
@each_implementation
def test_cases_that_persist_may_follow_each_other(implementation: Implementation, cases: list[Case]) -> None:
    outcome = converse(
        implementation, whole(b"".join(case.wire for case in cases if case.name != "half of an empty line"))
    )
    expected = [seen.target for case in cases for seen in case.requests]
    assert [seen.target for seen in outcome.requests] == expected
    assert (outcome.error, outcome.phase) == (None, "IDLE")


# What is kept in memory.


def test_an_idle_protocol_holds_nothing(implementation: Implementation) -> None:
    protocol = implementation.protocol()
    assert _is_bare(implementation, protocol)
    for wire in (
        GET,
        GET * 3,
        POST + b"hello",
        CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        GET + b"\r\n\r\n",
        b"\r\n",
    ):
        protocol.receive(wire)
        take_turn(implementation, protocol, _empty(implementation), Outcome())
        assert _is_bare(implementation, protocol), wire


@pytest.mark.parametrize("wire", [b"GET /", POST + b"he", CHUNKED + b"5\r\nhel", GET])
def test_a_closed_protocol_holds_nothing(implementation: Implementation, wire: bytes) -> None:
    protocol = implementation.protocol()
    protocol.receive(wire)
    if protocol.read_head() is not None and implementation.phase(protocol) == "BODY":
        assert not protocol.read_body()
    protocol.close()
    assert implementation.phase(protocol) == "CLOSED"
    assert (protocol._received, protocol._decoder, protocol.request, protocol.sink) == (b"", None, None, None)


def _empty(implementation: Implementation) -> Callable[[Any], Any]:
    response = implementation.module("messages").Response
    return lambda request: response()


def _is_bare(implementation: Implementation, protocol: Any) -> bool:
    return (
        implementation.phase(protocol) == "IDLE"
        and protocol._received == b""
        and protocol._decoder is None
        and protocol.request is None
        and protocol.sink is None
    )


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b"\r\n" * 500),
        (b"", b"G" * 1000),
        (b"GET /", b"a" * 1000),
        (b"GET / HTTP/1.1\r\n", b"X: a\r\n" * 200),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * 1000),
        (b"GET / HTTP/1.1\r\n", b"X" * 1000),
        (CHUNKED, b"0" * 1000),
        (CHUNKED, b"1\r\na\r\n" * 200),
        (CHUNKED + b"5;a=", b"a" * 1000),
        (CHUNKED + b"1000000\r\n", b"a" * 1000),
        (CHUNKED + b"0\r\n", b"X: a\r\n" * 200),
        (CHUNKED + b"0\r\nX: ", b"a" * 1000),
        (CHUNKED + b"5\r\nhello", b"\r" * 1000),
        (POST.replace(b"5", b"1000000"), b"a" * 1000),
        (b"", GET * 40),
    ],
)
def test_no_client_makes_the_buffers_grow(implementation: Implementation, start: bytes, piece: bytes) -> None:
    """However much a client sends, no more of it is kept than the limit of a head and one piece."""
    outcome = converse(implementation, [start, *[piece] * 300])
    assert outcome.most_held <= 65536 + 2000


# 100 Continue: RFC 9110 §10.1.1.

EXPECT = b"Expect: 100-continue\r\n\r\n"


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (POST, False),
        (POST[:-2] + EXPECT, True),
        (CHUNKED[:-2] + EXPECT, True),
        (POST[:-2] + EXPECT + b"h", False),  # it is arriving already
        (CHUNKED[:-2] + EXPECT + b"5", False),
        (POST.replace(b"HTTP/1.1", b"HTTP/1.0")[:-2] + EXPECT, False),
        (POST[:-2] + b"Expect:\r\n\r\n", False),
    ],
)
def test_continue(implementation: Implementation, wire: bytes, expected: bool) -> None:
    protocol = implementation.protocol()
    protocol.receive(wire)
    assert protocol.read_head() is not None
    assert implementation.phase(protocol) == "BODY"
    assert protocol.must_continue is expected


def test_continue_is_an_interim_response(implementation: Implementation) -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "5")]))
    client.receive_data(implementation.module("protocol").CONTINUE)
    event = client.next_event()
    assert isinstance(event, h11.InformationalResponse)
    assert event.status_code == 100


def test_a_server_of_http_1_0_never_says_continue(implementation: Implementation) -> None:
    protocol = implementation.protocol(keep_alive=_keep_alive(implementation, minor=0))
    protocol.receive(POST[:-2] + EXPECT)
    assert protocol.read_head() is not None
    assert protocol.must_continue is False


# Responses. `ask` sends a request and reads the response by the letter of the RFC.


def _keep_alive(implementation: Implementation, timeout: float = 120.0, requests: int = 1000, minor: int = 1) -> Any:
    return implementation.module("keep_alive").KeepAlive(timeout, requests, minor)


def _ready(implementation: Implementation, wire: bytes, keep_alive: Any = None) -> Any:
    """A protocol that has read the request in `wire`, and waits for its handler."""
    protocol = implementation.protocol(keep_alive=keep_alive)
    protocol.receive(wire)
    assert protocol.read_head() is not None
    assert implementation.phase(protocol) == "HANDLER" or protocol.read_body()
    return protocol


def ask(
    implementation: Implementation,
    wire: bytes,
    status: int = 200,
    body: Any = b"hello",
    fields: Any = (),
    *,
    may_persist: bool = True,
    keep_alive: Any = None,
) -> Answer:
    protocol = _ready(implementation, wire, keep_alive)
    method = protocol.request.method
    made = implementation.module("messages").Response(status, body, fields)
    head, content = send(protocol, made, may_persist)
    protocol.finish()
    (response,) = read_answers(head + content, [method])
    assert implementation.phase(protocol) == ("IDLE" if response.persists else "LINGER")
    return response


def test_a_response(implementation: Implementation) -> None:
    protocol = _ready(implementation, GET)
    response = implementation.module("messages").Response(
        200, b"hello", [("Content-Type", "text/plain"), ("X", "\xe9")]
    )
    assert b"".join(send(protocol, response)) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Type: text/plain\r\n"
        b"X: \xe9\r\n"
        b"Content-Length: 5\r\n"
        b"Connection: keep-alive\r\n"
        b"Keep-Alive: timeout=120, max=999\r\n"
        b"\r\n"
        b"hello"
    )


@pytest.mark.parametrize("wire", [GET, OLD, POST + b"hello"])
def test_a_known_length(implementation: Implementation, wire: bytes) -> None:  # RFC 9112 §6.2
    for body in (b"hello", b""):
        response = ask(implementation, wire, body=body)
        assert (response.framing, response.body, response.persists) == ("length", body, True)
        assert response.value("content-length") == str(len(body))


def test_an_unknown_length_is_chunked(implementation: Implementation) -> None:  # RFC 9112 §7.1
    for body in ([b"hello, ", b"", b"world"], [], [b"x" * 100_000]):
        response = ask(implementation, GET, body=body)
        assert (response.framing, response.body, response.persists) == ("chunked", b"".join(body), True)


def test_an_unknown_length_ends_with_the_connection_for_http_1_0(implementation: Implementation) -> None:
    response = ask(implementation, OLD, body=[b"hello, ", b"world"])  # RFC 9112 §6.3 step 8
    assert (response.framing, response.body, response.persists) == ("close", b"hello, world", False)


def test_a_declared_length(implementation: Implementation) -> None:
    for wire in (GET, OLD):
        response = ask(implementation, wire, body=[b"hello, ", b"world"], fields=[("content-length", "12")])
        assert (response.framing, response.body, response.persists) == ("length", b"hello, world", True)
        assert response.values("transfer-encoding") == []


def test_more_than_declared_is_cut_off(implementation: Implementation) -> None:
    response = ask(implementation, GET, body=[b"hel", b"lo, ", b"world"], fields=[("Content-Length", "5")])
    assert (response.framing, response.body) == ("length", b"hello")


def test_less_than_declared_is_an_error(implementation: Implementation) -> None:
    protocol = _ready(implementation, GET)
    response = implementation.module("messages").Response(200, [b"hell"], [("Content-Length", "5")])
    outgoing = new_outgoing(protocol)
    protocol.prepare(outgoing, response, DATE, True)
    assert outgoing.encode(b"hell") == b"hell"
    with pytest.raises(ValueError, match="1 bytes shorter"):
        outgoing.end()


def ask_for_trailers(
    implementation: Implementation, wire: bytes, trailers: Any, body: Any = (b"hello",), fields: Any = ()
) -> Answer:
    protocol = _ready(implementation, wire)
    method = protocol.request.method
    made = implementation.module("messages").Response(200, body, fields, trailers)
    (response,) = read_answers(b"".join(send(protocol, made)), [method])
    return response


def test_trailers(implementation: Implementation) -> None:  # RFC 9112 §7.1.2
    asked = []

    def late() -> list[tuple[str, str]]:
        asked.append(1)
        return [("ETag", '"x"'), ("X-Sum", "1"), ("X-Sum", "\xe9")]

    for trailers in (late, late(), tuple(late())):
        response = ask_for_trailers(implementation, GET, trailers)
        assert (response.body, response.trailers) == (b"hello", ('ETag: "x"', "X-Sum: 1", "X-Sum: \xe9"))
        assert response.persists
    assert len(asked) == 3
    for of_a_mapping in ({"A": "b"}, lambda: {"A": "b"}):
        assert ask_for_trailers(implementation, GET, of_a_mapping).trailers == ("A: b",)
    nothing: list[Any] = [None, (), {}, list, lambda: None]
    for none in nothing:
        assert ask_for_trailers(implementation, GET, none).trailers == ()


def test_trailers_are_made_after_the_content(implementation: Implementation) -> None:
    made: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        for piece in (b"a", b"b"):
            made.append(piece)
            yield piece

    response = ask_for_trailers(implementation, GET, lambda: [("X-Made", str(len(made)))], pieces())
    assert (response.body, response.trailers) == (b"ab", ("X-Made: 2",))


def test_trailers_belong_to_one_response(implementation: Implementation) -> None:
    protocol = _ready(implementation, GET)
    make = implementation.module("messages").Response
    first = send(protocol, make(200, [b"x"], (), {"A": "b"}))[1]
    protocol.finish()
    protocol.receive(GET)
    assert protocol.read_head() is not None
    assert (first, send(protocol, make(200, [b"x"]))[1]) == (b"1\r\nx\r\n0\r\nA: b\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("wire", "body", "fields"),
    [(HEAD, (b"hello",), ()), (OLD, (b"hello",), ()), (GET, b"hello", ()), (GET, (b"hello",), {"Content-Length": "5"})],
)
def test_there_are_no_trailers_without_chunks(
    implementation: Implementation, wire: bytes, body: Any, fields: Any
) -> None:
    def never() -> list[tuple[str, str]]:
        raise AssertionError("nobody wants them")

    assert ask_for_trailers(implementation, wire, never, body, fields).trailers == ()


@pytest.mark.parametrize(
    "bad",
    [
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Set-Cookie", "a=b"),
        ("Trailer", "x"),
        ("X", "a\r\nb"),
        ("X", "a\nb"),
        ("X", "\0"),
        ("X", "\u20ac"),
        ("X Y", "1"),
        ("", "1"),
        ("X", 1),
        (1, "X"),
        ("X",),
        "X",
        None,
    ],
    ids=repr,
)
def test_a_malformed_trailer_is_logged(
    implementation: Implementation, bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It breaks neither the stream nor the other trailers (RFC 9110 §6.5.1)."""
    response = ask_for_trailers(implementation, GET, [("A", "1"), bad, ("B", "2")])
    assert (response.body, response.trailers) == (b"hello", ("A: 1", "B: 2"))
    assert [record.getMessage()[-len(repr(bad)) :] for record in caplog.records] == [repr(bad)]


@pytest.mark.parametrize("trailers", [lambda: 1 / 0, lambda: 5, 5])
def test_a_function_for_trailers_that_fails(
    implementation: Implementation, trailers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    response = ask_for_trailers(implementation, GET, trailers)
    assert (response.body, response.trailers) == (b"hello", ())
    assert "the function for the trailers" in caplog.text


def test_trailers_may_be_announced(implementation: Implementation, caplog: pytest.LogCaptureFixture) -> None:
    fields = [("Trailer", "X-Sum"), ("TE", "trailers"), ("trailer", "X-\xe9"), ("X", "1")]  # RFC 9110 §6.6.2
    announced = ask_for_trailers(implementation, GET, {"X-Sum": "1"}, fields=fields)
    assert announced.values("trailer") == ["X-Sum", "X-\xe9"]
    assert announced.values("x") == ["1"]
    assert "dropped: TE" in caplog.text
    caplog.clear()
    ask_for_trailers(implementation, GET, {"X-Sum": "1"}, fields=fields[:1])
    assert not caplog.records
    for trailers, wire in (({"X-Sum": "1"}, OLD), (None, GET)):
        assert ask_for_trailers(implementation, wire, trailers, fields=fields).values("trailer") == []


@pytest.mark.parametrize("body", [b"hello", [b"hello"]])
def test_no_content_for_head(implementation: Implementation, body: Any) -> None:  # RFC 9110 §9.3.2
    response = ask(implementation, HEAD, body=body)
    assert (response.framing, response.body, response.persists) == ("none", b"", True)
    assert response.values("content-length") == (["5"] if body == b"hello" else [])
    assert ask(implementation, HEAD, body=b"", fields=[("Content-Length", "7")]).value("content-length") == "7"


@pytest.mark.parametrize("wire", [GET, HEAD, OLD])
@pytest.mark.parametrize("fields", [[], [("Content-Length", "5")]])
def test_204_and_304(implementation: Implementation, wire: bytes, fields: list[Any]) -> None:
    response = ask(implementation, wire, 204, fields=fields)  # RFC 9110 §15.3.5, §8.6
    assert (response.framing, response.persists, response.values("content-length")) == ("none", True, [])
    response = ask(implementation, wire, 304, fields=fields)  # RFC 9110 §15.4.5, §8.6
    assert (response.framing, response.persists, response.values("content-length")) == (
        "none",
        True,
        ["5"] if fields else [],
    )


@pytest.mark.parametrize("status", [200, 206, 299, 301, 404, 451, 499, 500, 599])
def test_every_final_status(implementation: Implementation, status: int) -> None:  # RFC 9110 §15
    assert ask(implementation, GET, status).status == status


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 199, 600, 1000, 20000])
def test_no_other_status(implementation: Implementation, status: int) -> None:
    _cannot_be_sent(implementation, status, b"", [])


@pytest.mark.parametrize("wire", [GET, GET.replace(b"GET", b"HEAD")])
@pytest.mark.parametrize("reason", ["Already running", "", "L\xf6we\t!", "conflict"])
@pytest.mark.parametrize("status", [204, 299, 409])
def test_the_reason_phrase_of_the_handler(
    implementation: Implementation, wire: bytes, reason: str, status: int
) -> None:  # RFC 9112 §4
    make = implementation.module("messages").Response
    protocol = _ready(implementation, wire)
    head, _ = send(protocol, make(status, b"hello", reason=reason))
    assert head.startswith(f"HTTP/1.1 {status} {reason}\r\n".encode("latin-1"))
    protocol.finish()
    assert implementation.phase(protocol) == "IDLE"
    assert make(409).reason is None
    assert make.text("x").reason is None


@pytest.mark.parametrize("reason", ["a\r\nX: b", "a\nb", "a\rb", "\0", "\x7f", "\x01", "\u20ac"])
def test_a_reason_phrase_that_cannot_be_sent(implementation: Implementation, reason: str) -> None:
    _cannot_be_sent(implementation, 200, b"", [], reason)


def test_a_reason_phrase_must_be_text(implementation: Implementation) -> None:
    protocol = _ready(implementation, GET)
    response = implementation.module("messages").Response(200, reason=b"OK")
    with pytest.raises(TypeError, match="reason phrase"):
        protocol.prepare(new_outgoing(protocol), response, DATE, True)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", [("X", "a\r\nSet-Cookie: b")]),
        (b"", [("X\r\nY", "a")]),
        (b"", [("X", "\0")]),
        (b"", [("X", "€")]),
        (b"", [("X Y", "a")]),
        (b"", [("", "a")]),
        (b"", [("Connection", "a\r\nb")]),
        (b"hello", [("Content-Length", "4")]),
        (b"hello", [("Content-Length", "6")]),
        (b"hello", [("Content-Length", "5"), ("Content-Length", "5")]),
        (b"hello", [("Content-Length", "+5")]),
        ([b"hello"], [("Content-Length", "five")]),
    ],
)
def test_responses_that_cannot_be_sent(implementation: Implementation, body: Any, fields: list[Any]) -> None:
    _cannot_be_sent(implementation, 200, body, fields)


def _cannot_be_sent(
    implementation: Implementation, status: int, body: Any, fields: list[Any], reason: str | None = None
) -> None:
    """Raises ValueError and changes nothing, so that another response can be sent."""
    protocol = _ready(implementation, GET + GET)
    make = implementation.module("messages").Response
    with pytest.raises(ValueError, match=r"not|says"):
        protocol.prepare(new_outgoing(protocol), make(status, body, fields, reason=reason), DATE, True)
    assert implementation.phase(protocol) == "HANDLER"
    assert protocol.served == 0
    head, _ = send(protocol, make(500))
    assert head.startswith(b"HTTP/1.1 500 ")
    protocol.finish()
    assert protocol.read_head() is not None  # and the connection goes on


def test_a_handler_cannot_set_the_headers_of_the_protocol(implementation: Implementation) -> None:
    """A handler cannot set framing or hop-by-hop fields (RFC 9110 §7.6.1, RFC 9112 §6)."""
    mine = [
        ("Transfer-Encoding", "gzip"),
        ("Connection", "upgrade"),
        ("Keep-Alive", "timeout=99999, max=99999"),
        ("Proxy-Connection", "close"),
        ("Upgrade", "h2c"),
        ("TE", "trailers"),
        ("Trailer", "X"),
        ("X-Mine", "stays"),
    ]
    response = ask(implementation, GET, fields=mine)
    names = [name for name, _ in response.fields]
    assert names == ["date", "x-mine", "content-length", "connection", "keep-alive"]
    assert response.value("connection") == "keep-alive"
    assert response.value("keep-alive") == "timeout=120, max=999"


def test_headers_that_the_handlers_connection_header_names_are_dropped(
    implementation: Implementation, caplog: pytest.LogCaptureFixture
) -> None:
    """Its Connection header is not sent, so the headers that it names would be taken for end-to-end ones (§7.6.1)."""
    mine = [
        ("connection", "close, X-Mine"),
        ("x-mine", "1"),
        ("X-Yours", "2"),
        ("Connection", " x-YOURS ,"),
        ("X", "3"),
    ]
    response = ask(implementation, GET, fields=mine)
    assert [name for name, _ in response.fields] == ["date", "x", "content-length", "connection"]
    assert not response.persists
    assert "which are dropped: connection, x-mine, X-Yours, Connection" in caplog.text


@pytest.mark.parametrize("field", [*FLAGS, "X"])
def test_only_dropped_headers_are_logged(
    implementation: Implementation, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    value = {"content-length": "5", "connection": "Close, keep-alive"}.get(field, "x")
    ask(implementation, GET, fields=[(field, value)])
    told = FLAGS.get(field, 0) & (HOP_BY_HOP | TRANSFER_ENCODING)
    assert bool(caplog.records) == bool(told)


def test_a_handler_may_close(implementation: Implementation) -> None:  # RFC 9112 §9.6
    for value in ("close", "Close", "x, CLOSE"):
        for wire in (GET, OLD):
            response = ask(implementation, wire, fields=[("connection", value)])
            assert (response.persists, response.values("keep-alive")) == (False, [])


def test_a_handler_cannot_keep_alive(implementation: Implementation) -> None:
    close = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert not ask(implementation, close, fields=[("Connection", "keep-alive")]).persists


def test_a_handler_may_date_its_response(implementation: Implementation) -> None:  # RFC 9110 §6.6.1: not twice
    assert ask(implementation, GET).value("date") == "Sun, 06 Nov 1994 08:49:37 GMT"
    for name in ("Date", "DATE", "date"):
        assert ask(implementation, GET, fields=[(name, "Thu, 01 Jan 1970 00:00:00 GMT")]).value("date")[5:] == (
            "01 Jan 1970 00:00:00 GMT"
        )


def test_the_version_is_that_of_the_server(implementation: Implementation) -> None:  # RFC 9110 §6.2
    assert ask(implementation, GET).minor == 1
    assert ask(implementation, OLD).minor == 1


# Keep-alive: docs/keep-alive.md, sections 1 to 3 and 10 (RFC 9112 §9.3, appendix C.2.2).


def test_the_count_runs_down_to_a_close(implementation: Implementation) -> None:
    keep_alive = _keep_alive(implementation, 5.0, 3)
    outcome = converse(implementation, [GET * 5], keep_alive=keep_alive)
    responses = read_answers(outcome.output, ["GET"] * 3)
    assert [response.values("keep-alive") for response in responses] == [["timeout=5, max=2"], ["timeout=5, max=1"], []]
    assert [response.value("connection") for response in responses] == ["keep-alive", "keep-alive", "close"]
    assert outcome.phase == "LINGER"


def test_one_request_only(implementation: Implementation) -> None:
    keep_alive = _keep_alive(implementation, 5.0, 1)
    outcome = converse(implementation, [GET * 2], keep_alive=keep_alive)
    (response,) = read_answers(outcome.output, ["GET"])
    assert not response.persists


def test_any_number_of_requests(implementation: Implementation) -> None:
    keep_alive = _keep_alive(implementation, 5.0, 0)
    outcome = converse(implementation, [GET * 500], keep_alive=keep_alive)
    responses = read_answers(outcome.output, ["GET"] * 500)
    assert {response.value("keep-alive") for response in responses} == {"timeout=5"}


@pytest.mark.parametrize(("timeout", "announced"), [(120.0, 120), (5.9, 5), (1.0, 1), (0.5, 1)])
def test_the_timeout_is_announced_as_a_whole_number(
    implementation: Implementation, timeout: float, announced: int
) -> None:
    """Rounded down, but never to 0, which would say that the connection is closed already."""
    response = ask(implementation, GET, keep_alive=_keep_alive(implementation, timeout, 10))
    assert response.value("keep-alive") == f"timeout={announced}, max=9"


def test_keep_alive_switched_off_and_on_while_running(implementation: Implementation) -> None:
    keep_alive = _keep_alive(implementation)
    assert ask(implementation, GET, keep_alive=keep_alive).persists
    keep_alive.enabled = False
    assert not ask(implementation, GET, keep_alive=keep_alive).persists
    assert not ask(implementation, OLD, keep_alive=keep_alive).persists
    keep_alive.enabled = True
    assert ask(implementation, GET, keep_alive=keep_alive).persists


def test_a_timeout_of_zero_switches_it_off(implementation: Implementation) -> None:
    assert not ask(implementation, GET, keep_alive=_keep_alive(implementation, 0)).persists


def test_the_count_may_be_lowered_while_running(implementation: Implementation) -> None:
    keep_alive = _keep_alive(implementation, 5.0, 100)
    protocol = implementation.protocol(keep_alive=keep_alive)
    outcome = Outcome()
    protocol.receive(GET * 10)
    take_turn(implementation, protocol, _empty(implementation), outcome)
    keep_alive.requests = 5
    protocol.receive(GET)
    take_turn(implementation, protocol, _empty(implementation), outcome)
    assert [seen.persists for seen in outcome.requests] == [True] * 10 + [False]


def test_a_server_that_wants_to_close(implementation: Implementation) -> None:
    for wire in (GET, OLD, HEAD, POST + b"hello"):
        assert not ask(implementation, wire, may_persist=False).persists


def test_http_1_0_clients_are_told_that_the_connection_persists(
    implementation: Implementation,
) -> None:  # RFC 9112, appendix C.2.2
    response = ask(implementation, OLD)
    assert (response.value("connection"), response.value("keep-alive")) == ("keep-alive", "timeout=120, max=999")


def test_a_server_of_http_1_0(implementation: Implementation) -> None:
    """`--protocol HTTP/1.0`: every client is treated as an HTTP/1.0 client."""
    keep_alive = _keep_alive(implementation, minor=0)
    response = ask(implementation, GET, keep_alive=keep_alive)
    assert (response.minor, response.persists) == (0, False)
    asked = GET.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
    response = ask(implementation, asked, keep_alive=keep_alive)
    assert (response.minor, response.persists) == (0, True)
    response = ask(implementation, asked, body=[b"hello"], keep_alive=keep_alive)
    assert (response.framing, response.body, response.persists) == ("close", b"hello", False)
    response = ask(implementation, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", keep_alive=keep_alive)
    assert (response.minor, response.persists) == (0, False)


# Error responses.


@pytest.mark.parametrize(
    "wire",
    [
        b"",  # a part of a request has arrived, and the deadline passes
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: h\r\n",
        POST,
        POST + b"hel",
        CHUNKED + b"5\r\nhel",
    ],
)
def test_a_response_before_the_request_is_complete_closes(implementation: Implementation, wire: bytes) -> None:
    """A 408, for example: the unread rest could be taken for the next request (RFC 9112 §9.6)."""
    messages, errors = implementation.module("messages"), implementation.module("errors")
    protocol = implementation.protocol()
    protocol.receive(b"\r\n" + wire)
    take_turn(implementation, protocol, _empty(implementation), Outcome())
    assert implementation.phase(protocol) in ("IDLE", "HEAD", "BODY")
    head, content = send(protocol, messages.error_response(errors.HTTPError(408, "too slow")))
    (response,) = read_answers(head + content, ["GET"])
    assert (response.status, response.persists, response.body) == (408, False, b"408 Request Timeout: too slow\n")
    protocol.finish()
    assert implementation.phase(protocol) == "LINGER"
    assert not protocol.has_received()


def test_a_handler_that_responds_before_the_body_closes(implementation: Implementation) -> None:
    protocol = implementation.protocol()
    protocol.receive(POST + b"he" + b"llo" + GET)
    assert protocol.read_head() is not None
    head, content = send(protocol, implementation.module("messages").Response(401))
    (response,) = read_answers(head + content, ["POST"])
    assert not response.persists
    protocol.finish()
    assert not protocol.has_received()


def test_the_response_to_a_rejected_request_repeats_nothing_of_it(implementation: Implementation) -> None:
    outcome = converse(implementation, [b"GET /<script> HTTP/1.1\r\nHost: secret host\r\n\r\n"])
    assert outcome.error == 400
    assert b"script" not in outcome.output
    assert b"secret" not in outcome.output


def test_allow_goes_with_405(implementation: Implementation) -> None:  # RFC 9110 §15.5.6
    errors = implementation.module("errors")

    def refuse(request: Any) -> Any:
        raise errors.HTTPError(405, "not here", (("Allow", "GET, HEAD"),))

    outcome = converse(implementation, [GET], handler=refuse)
    (response,) = read_answers(outcome.output, ["GET"])
    assert (response.status, response.value("allow"), response.framing) == (405, "GET, HEAD", "length")


# Bodies of requests and their sinks.


class Notes:
    """A sink that records the calls of its methods."""

    def __init__(self, refuse: Exception | None = None) -> None:
        self.said: list[Any] = []
        self.refuse = refuse

    def write(self, data: bytes) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.said.append(bytes(data))

    def finish(self) -> Any:
        self.said.append("finish")
        return io.BytesIO(b"from the sink")

    def abandon(self) -> None:
        self.said.append("abandon")


def test_a_custom_sink(implementation: Implementation) -> None:
    for head, pieces in (
        (POST, [b"he", b"llo"]),
        (CHUNKED, [b"5\r\nhe", b"llo\r\n", b"0\r\n\r\n"]),
    ):
        protocol = implementation.protocol()
        protocol.receive(head)
        request = protocol.read_head()
        sink = protocol.sink = Notes()
        for piece in pieces:
            assert sink.said[-1:] != ["finish"]
            protocol.receive(piece)
            complete = protocol.read_body()
        assert complete
        assert sink.said == [b"he", b"llo", "finish"]
        assert request.received.read() == b"from the sink"
        assert request.body.read() == b""


def test_a_body_that_never_ends_is_abandoned(implementation: Implementation) -> None:
    for head in (POST, CHUNKED + b"1\r\na\r\n"):
        for end in ("close", "respond"):
            protocol = implementation.protocol()
            protocol.receive(head)
            protocol.read_head()
            sink = protocol.sink = Notes()
            assert not protocol.read_body()
            if end == "close":
                protocol.close()
            else:
                send(protocol, implementation.module("messages").Response(408))
            assert sink.said[-1] == "abandon"


def test_a_sink_may_reject_the_body(implementation: Implementation) -> None:
    error = implementation.module("errors").HTTPError(413, "enough")
    for wire in (POST + b"hello", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"):
        protocol = implementation.protocol()
        protocol.receive(wire)
        protocol.read_head()
        sink = protocol.sink = Notes(error)
        with pytest.raises(type(error)):
            protocol.read_body()
        head, _ = send(protocol, implementation.module("messages").error_response(error))
        assert b"\r\nConnection: close\r\n" in head
        assert sink.said == ["abandon"]


def test_a_large_body_and_the_request_after_it(implementation: Implementation) -> None:
    """A megabyte with Content-Length and chunked, in pieces as a socket returns them (RFC 9112 §6.2, §7.1, §9.3.2)."""
    content = random.Random(9112).randbytes(1_000_000)
    sizes = random.Random(7)
    chunks, place = b"", 0
    while place < len(content):
        piece = content[place : place + sizes.randrange(1, 20_000)]
        chunks += b"%x\r\n%b\r\n" % (len(piece), piece)
        place += len(piece)
    for wire in (POST.replace(b": 5", b": 1000000") + content, CHUNKED + chunks + b"0\r\n\r\n"):
        outcome = converse(implementation, cut(wire + GET, range(0, len(wire), 65536)))
        first, second = outcome.requests
        assert first.body.encode("latin-1") == content
        assert (second.method, second.body) == ("GET", "")
        assert outcome.most_held < 1000


# The end of the stream: RFC 9112 §8, and the half-close in "The close policy" of docs/keep-alive.md.


def test_a_half_closed_client_still_gets_its_responses(implementation: Implementation) -> None:
    protocol = implementation.protocol()
    protocol.receive(GET * 3)
    protocol.receive(b"")
    outcome = Outcome()
    take_turn(implementation, protocol, _empty(implementation), outcome)
    assert len(outcome.requests) == 3
    assert implementation.phase(protocol) == "CLOSED"


def test_a_client_that_closes_without_a_request(implementation: Implementation) -> None:
    assert converse(implementation, [], eof=True) == Outcome(phase="CLOSED")
    outcome = converse(implementation, [GET], eof=True)
    assert (outcome.phase, outcome.error) == ("CLOSED", None)


def test_close_idle_and_close(implementation: Implementation) -> None:
    protocol = implementation.protocol()
    protocol.close_idle()
    assert implementation.phase(protocol) == "LINGER"
    protocol.close()
    assert implementation.phase(protocol) == "CLOSED"
    protocol.close()


# h11, an independent implementation, reads the responses.


def read_with_h11(
    method: str, output: bytes, pieces: Callable[[bytes], list[bytes]]
) -> tuple[h11.Response, bytes, Any]:
    """The response, its content, and what h11 thinks of the connection afterwards."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    response: h11.Response | None = None
    content = b""
    for data in [*pieces(output), b""]:
        client.receive_data(data)
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None
                return response, content, client.their_state
            else:
                assert event is h11.NEED_DATA, event
                break
    raise AssertionError("h11 waits for the rest of the response")


FIELD_NAMES = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)
FIELD_VALUES = st.from_regex(r"([!-~\xa1-\xff]([ \t!-~\xa1-\xff]{0,20}[!-~\xa1-\xff])?)?", fullmatch=True)
OWN = {
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
}
BODIES: st.SearchStrategy[bytes | list[bytes]] = st.binary(max_size=200) | st.lists(st.binary(max_size=60), max_size=6)


@more_examples
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "DELETE", "BREW"]),
    minor=st.sampled_from([0, 1]),
    connection=st.sampled_from(["", "Connection: close\r\n", "Connection: keep-alive\r\n"]),
    status=st.sampled_from([200, 201, 204, 206, 301, 304, 400, 404, 405, 500, 503]) | st.integers(200, 599),
    fields=st.lists(st.tuples(FIELD_NAMES, FIELD_VALUES), max_size=5),
    body=BODIES,
    declares=st.booleans(),
    server_minor=st.sampled_from([1, 1, 0]),
    bytewise_=st.booleans(),
)
@each_implementation
def test_h11_reads_every_response(
    implementation: Implementation,
    method: str,
    minor: int,
    connection: str,
    status: int,
    fields: list[tuple[str, str]],
    body: bytes | list[bytes],
    declares: bool,
    server_minor: int,
    bytewise_: bool,
) -> None:
    content = body if isinstance(body, bytes) else b"".join(body)
    fields = [line for line in fields if line[0].lower() not in OWN | {"date"}]
    sent = [*fields, ("Content-Length", str(len(content)))] if declares else fields
    protocol = _ready(
        implementation,
        f"{method} / HTTP/1.{minor}\r\nHost: h\r\n{connection}\r\n".encode(),
        _keep_alive(implementation, minor=server_minor),
    )
    output = b"".join(send(protocol, implementation.module("messages").Response(status, body, sent)))
    protocol.finish()
    response, received, state = read_with_h11(method, output, bytewise if bytewise_ else whole)
    assert response.status_code == status
    has_content = method != "HEAD" and status not in (204, 205, 304)
    assert received == (content if has_content else b"")
    expected = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
    assert [line for line in response.headers if line[0].decode() not in OWN | {"date"}] == expected
    # Both sides agree on whether there will be another request; that HTTP/1.0 can persist, h11 does not know.
    if implementation.phase(protocol) == "IDLE":
        assert state is (h11.DONE if server_minor else h11.MUST_CLOSE)
        assert server_minor or (b"connection", b"keep-alive") in response.headers
    else:
        assert state in (h11.MUST_CLOSE, h11.CLOSED)


def test_h11_reads_a_pipeline(implementation: Implementation) -> None:
    """Responses of every framing, one after the other on one connection."""
    bodies: Iterator[Any] = iter([b"one", [b"two", b"2"], b"", [], [b"five"]])
    make = implementation.module("messages").Response
    outcome = converse(implementation, [GET * 5], handler=lambda request: make(200, next(bodies)))
    client = h11.Connection(h11.CLIENT)
    client.receive_data(outcome.output)
    contents = []
    for _ in range(5):
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
        client.send(h11.EndOfMessage())
        assert isinstance(client.next_event(), h11.Response)
        content = b""
        while isinstance(event := client.next_event(), h11.Data):
            content += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage)
        contents.append(content)
        client.start_next_cycle()
    assert contents == [b"one", b"two2", b"", b"", b"five"]


# The test tools themselves: they must be able to fail.


def test_held_sees_what_is_kept(implementation: Implementation) -> None:
    protocol = implementation.protocol()
    protocol.receive(b"GET / HT")
    assert protocol.read_head() is None
    assert held(protocol) == 8


@pytest.mark.parametrize(
    "output",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nDate: x\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nDate: x\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nDate: x\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nDate: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nDate: x\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\nDate: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nDate: x\r\nX: a\r\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nDate: x\r\nX y: a\r\n\r\n",
    ],
)
def test_the_reader_of_responses_is_strict(output: bytes) -> None:
    with pytest.raises(AssertionError):
        read_answers(output, ["GET"])
