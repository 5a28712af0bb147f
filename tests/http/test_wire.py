"""The contract of the syntax (see `kaserve.http.wire`), on each implementation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.wire import IMPLEMENTATIONS, FieldLine, Implementation, cut

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)


def parse(implementation: Implementation, head: bytes) -> Any:
    return implementation.module("wire").parse_head(head, 0, len(head))


def rejected_with(implementation: Implementation, head: bytes) -> int:
    with pytest.raises(implementation.module("errors").HTTPError) as caught:
        parse(implementation, head)
    return int(caught.value.status)


# find_head_end.


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        pytest.param(b"", 0, -1, id="empty"),
        pytest.param(b"\r\n\r", 0, -1, id="cut-off"),
        pytest.param(b"\r\n\r\n", 0, 0, id="at-once"),
        pytest.param(b"\r\n\r\n", 1, -1, id="after-its-start"),
        pytest.param(b"\r\n\r\n", 4, -1, id="after-its-end"),
        pytest.param(b"a\r\n\r\n\r\n", 0, 1, id="the-first-of-two"),
        pytest.param(b"a\r\n\r\n\r\n", 2, 3, id="the-second-of-two"),
        pytest.param(b"a\r\nb\r\r\n\r\n", 0, 5, id="a-lone-CR-before"),
        pytest.param(b"a" * 100 + b"\r\n\r\n" + b"b" * 100, 0, 100, id="in-the-middle"),
        pytest.param(b"a" * 100 + b"\r\n\r\n" + b"b" * 100, 101, -1, id="start-after-it"),
    ],
)
def test_the_end_of_a_head(implementation: Implementation, data: bytes, start: int, end: int) -> None:
    assert implementation.module("wire").find_head_end(data, start) == end


# parse_head. The corpus says what it must accept and reject; these tests say what it must return.


def test_a_head(implementation: Implementation) -> None:
    request = parse(implementation, b"GET /a?b HTTP/1.1\r\nHost: h:80\r\nX-Y:  a b\t\r\n")
    assert (request.method, request.target, request.minor) == ("GET", "/a?b", 1)
    assert request.fields == [("host", "h:80"), ("x-y", "a b")]
    assert request.authority == "h:80"
    assert request.trailers == []


def test_bytes_around_a_head_are_not_part_of_it(implementation: Implementation) -> None:
    head = b"GET / HTTP/1.1\r\nA: 1\r\n"
    for more in (b"", b"\r\n", b"B: 2\r\n", b"x" * 100_000):
        request = implementation.module("wire").parse_head(b"B: 0\r\n" + head + more, 6, 6 + len(head))
        assert (request.method, request.target, request.field_count) == ("GET", "/", 1)
        assert request.values("b") == []
        assert request.fields == [("a", "1")]


def test_a_head_without_fields(implementation: Implementation) -> None:
    request = parse(implementation, b"GET / HTTP/1.0\r\n")
    assert (request.minor, request.fields, request.flags, request.authority) == (0, [], 0, "")


def test_everything_is_a_plain_str(implementation: Implementation) -> None:
    request = parse(implementation, b"GET / HTTP/1.1\r\nHost: h\r\nX: \xe9\r\n")
    assert type(request.method) is type(request.target) is str
    assert all(type(name) is type(value) is str for name, value in request.fields)
    assert request.values("x") == ["\xe9"]


def test_heads_share_nothing(implementation: Implementation) -> None:
    head = b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n"
    first, second = parse(implementation, head), parse(implementation, head)
    first.fields.append(("y", "2"))
    del first.headers["host"]
    assert second.fields == [("host", "h"), ("x", "1")]
    assert parse(implementation, head).fields == [("host", "h"), ("x", "1")]


@pytest.mark.parametrize(
    "name", ["", "a", "x_y", "A", "a:", "a:\0", "b: a", "\xe9", "\u0100", "a" * 100, "!#$%&'*+-.^_`|~"]
)
def test_values_are_those_of_exactly_that_name(implementation: Implementation, name: str) -> None:
    fields = [("a", ": a"), ("x_y", "1"), ("b", "a: 2"), ("X-Y", ""), ("!#$%&'*+-.^_`|~", "\xe9"), ("a" * 100, "3")]
    head = b"GET / HTTP/1.1\r\n" + b"".join(f"{key}:{value}\r\n".encode("latin-1") for key, value in fields)
    expected = [value.strip() for key, value in fields if key.lower() == name]
    assert parse(implementation, head).values(name) == expected


def test_values_before_and_after_the_fields_were_asked_for(implementation: Implementation) -> None:
    request = parse(implementation, b"GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\nA:\r\n")
    assert request.values("a") == ["1", "3", ""]
    assert request.values("none") == []
    assert request.fields == [("a", "1"), ("b", "2"), ("a", "3"), ("a", "")]
    assert request.values("a") == ["1", "3", ""]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (b"Host: h", ["HOST"]),
        (b"HOST: h", ["HOST"]),
        (b"Host: h\r\nHost: h", ["HOST", "DUPLICATE_HOST"]),
        (b"host: h\r\nX: y\r\nHOST:\r\nHost: i", ["HOST", "DUPLICATE_HOST"]),
        (b"Content-Length: 0", ["CONTENT_LENGTH"]),
        (b"content-length: junk", ["CONTENT_LENGTH"]),
        (b"Content-Length: 1\r\nContent-Length: 1", ["CONTENT_LENGTH"]),
        (b"Transfer-Encoding: x", ["TRANSFER_ENCODING"]),
        (b"Expect: x", ["EXPECT"]),
        (b"Date: x", ["DATE"]),
        (b"Keep-Alive: x", ["HOP_BY_HOP"]),
        (b"Proxy-Connection: close", ["HOP_BY_HOP"]),
        (b"TE: x", ["HOP_BY_HOP"]),
        (b"Trailer: x", ["HOP_BY_HOP"]),
        (b"Upgrade: x", ["HOP_BY_HOP"]),
        (b"Connection: x", ["CONNECTION"]),
        (b"Connection:", ["CONNECTION"]),
        (b"Connection: close", ["CONNECTION", "CLOSE"]),
        (b"CONNECTION: CLOSE", ["CONNECTION", "CLOSE"]),
        (b"Connection: keep-alive", ["CONNECTION", "KEEP_ALIVE"]),
        (b"Connection: Keep-Alive", ["CONNECTION", "KEEP_ALIVE"]),
        (b"Connection: keep-alive,\tclose ,x", ["CONNECTION", "CLOSE", "KEEP_ALIVE"]),
        (b"Connection: keep-alive\r\nConnection: close", ["CONNECTION", "CLOSE", "KEEP_ALIVE"]),
        (b"Connection: ,,close,,", ["CONNECTION", "CLOSE"]),
        (b"Connection: xclose, closex, clos, close;q=1, close keep-alive", ["CONNECTION"]),
        (b'Connection: "close", keep_alive, keep-alive=1', ["CONNECTION"]),
        (b"Connection: \xa0close", ["CONNECTION"]),
        (b"Connection: close\x85", ["CONNECTION"]),
        (b"X-Host: h\r\nHos: t\r\nHostt: u\r\nContent_Length: 1\r\nConnections: close", []),
        (b"Content-Type: a\r\nContent-Lengt: 1\r\nContent-Lengths: 1\r\nTransfer-Encodin: x", []),
    ],
)
def test_flags(implementation: Implementation, line: bytes, names: list[str]) -> None:
    headers = implementation.module("headers")
    assert parse(implementation, b"GET / HTTP/1.1\r\n" + line + b"\r\n").flags == sum(
        getattr(headers, name) for name in names
    )


def test_the_first_host_is_the_authority(implementation: Implementation) -> None:
    assert parse(implementation, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n").authority == "a"
    assert parse(implementation, b"GET / HTTP/1.1\r\nHost: not a host\r\n").authority == "not a host"


def test_the_target_is_not_parsed(implementation: Implementation) -> None:
    assert parse(implementation, b"GET nonsense HTTP/1.1\r\n").target == "nonsense"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET / HTTP/2.0\r\nbad\r\n", 505),  # the request line comes first
        (b"GET / HTTP/0.9\r\n", 505),
        (b"GET / http/1.1\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # an empty line is not a field line
        (b"\r\n", 400),
        (b"\r\nGET / HTTP/1.1\r\n", 400),  # the caller has skipped it
    ],
)
def test_rejected_heads(implementation: Implementation, head: bytes, status: int) -> None:
    assert rejected_with(implementation, head) == status


def test_every_byte_of_a_head_replaced_by_every_byte(implementation: Implementation) -> None:
    """Any byte anywhere raises HTTPError or gives a request with the right parts (RFC 9112 §3, §5)."""
    head = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: x\r\n"
    error = implementation.module("errors").HTTPError
    for place in range(len(head) - 2):  # the last line end is part of the contract
        for byte in range(256):
            changed = head[:place] + bytes([byte]) + head[place + 1 :]
            try:
                request = parse(implementation, changed)
            except error:
                continue
            lines = changed.split(b"\r\n")
            assert lines.pop() == b""
            assert f"{request.method} {request.target} HTTP/1.".encode() == lines[0][:-1]
            assert len(request.fields) == len(lines) - 1
            for (name, value), line in zip(request.fields, lines[1:], strict=True):
                raw_name, _, raw_value = line.partition(b":")
                assert name.encode("ascii") == raw_name.lower()
                assert value.encode("latin-1") == raw_value.strip(b" \t")


def test_the_memo_of_received_lines_is_bounded(implementation: Implementation) -> None:
    """After thousands of different fields the first one is still parsed correctly."""
    for number in range(3000):
        line = b"X-%d: %d\r\n" % (number, number)
        assert parse(implementation, b"GET / HTTP/1.1\r\n" + line).fields == [(f"x-{number}", str(number))]
    assert parse(implementation, b"GET / HTTP/1.1\r\nX-0: 0\r\n").fields == [("x-0", "0")]


# ChunkedDecoder.


def decoder(implementation: Implementation, **limits: int) -> Any:
    return implementation.module("wire").ChunkedDecoder(implementation.limits(**limits))


def feed_all(chunks: Any, pieces: list[bytes]) -> None:
    for piece in pieces:
        chunks.feed(piece, 0)


def decode(implementation: Implementation, pieces: list[bytes]) -> tuple[bytes, list[FieldLine], bytes]:
    """Returns the content, the trailers, and the bytes that the decoder did not read."""
    chunks = decoder(implementation)
    content = b""
    rest = b""
    for piece in pieces:
        if chunks.done:
            rest += piece
            continue
        stop = chunks.feed(piece, 0)
        content += b"".join(chunks.content)
        chunks.content.clear()
        assert stop == len(piece) or chunks.done
        rest += piece[stop:]
    assert chunks.done
    return content, chunks.trailers, rest


WIKIPEDIA = b"4\r\nWiki\r\n6\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\n"


def test_wikipedia(implementation: Implementation) -> None:
    chunks = decoder(implementation)
    assert chunks.feed(WIKIPEDIA, 0) == len(WIKIPEDIA)
    assert b"".join(chunks.content) == b"Wikipedia in \r\n\r\nchunks."
    assert (chunks.done, chunks.missing, chunks.trailers) == (True, 0, [])


@pytest.mark.parametrize("size", range(1, len(WIKIPEDIA)))
def test_wikipedia_in_pieces_of_any_size(implementation: Implementation, size: int) -> None:
    stream = WIKIPEDIA + b"GET / HTTP/1.1"
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert decode(implementation, pieces) == (b"Wikipedia in \r\n\r\nchunks.", [], b"GET / HTTP/1.1")


@pytest.mark.parametrize("place", range(len(WIKIPEDIA) + 1))
def test_wikipedia_cut_anywhere(implementation: Implementation, place: int) -> None:
    stream = WIKIPEDIA + b"next"
    assert decode(implementation, cut(stream, [place])) == (b"Wikipedia in \r\n\r\nchunks.", [], b"next")


def test_the_index_of_the_first_byte_that_was_not_read(implementation: Implementation) -> None:
    chunks = decoder(implementation)
    assert chunks.feed(b"junk" + b"3\r\nab", 4) == 9
    assert chunks.missing == 1
    assert chunks.feed(b"xyc\r\n0\r\nA: b\r\n\r", 2) == 15
    assert not chunks.done
    assert chunks.feed(b"xyz\nnext", 3) == 4
    assert chunks.done
    assert b"".join(chunks.content) == b"abc"
    assert chunks.trailers == [("a", "b")]


def test_missing_bytes_of_a_chunk_are_known_before_they_arrive(implementation: Implementation) -> None:
    chunks = decoder(implementation)
    chunks.feed(b"ffffffffffffffff\r\n", 0)
    assert chunks.missing == 2**64 - 1
    chunks.feed(b"abc", 0)
    assert chunks.missing == 2**64 - 4


def test_content_is_available_as_it_arrives(implementation: Implementation) -> None:
    chunks = decoder(implementation)
    for piece, content in [
        (b"a\r\n01", b"01"),
        (b"234", b"234"),
        (b"56789", b"56789"),
        (b"\r\n1\r\n", b""),
        (b"x", b"x"),
    ]:
        chunks.feed(piece, 0)
        assert b"".join(chunks.content) == content
        assert all(chunks.content)
        chunks.content.clear()


def test_an_empty_piece_changes_nothing(implementation: Implementation) -> None:
    chunks = decoder(implementation)
    for piece in (b"", b"3", b"", b"\r\nab", b"", b"c\r", b"", b"\n0\r\n\r\n"):
        assert chunks.feed(piece, 0) == len(piece)
    assert chunks.done
    assert b"".join(chunks.content) == b"abc"


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    trailers=st.lists(st.tuples(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text("abc ", max_size=5)), max_size=3),
    upper=st.booleans(),
    zeros=st.integers(min_value=0, max_value=20),
    rest=st.binary(max_size=10),
    places=st.lists(st.integers(min_value=0, max_value=400), max_size=10).map(sorted),
)
@each_implementation
def test_encoded_chunks_are_decoded_however_they_are_cut(
    implementation: Implementation,
    pieces: list[bytes],
    trailers: list[FieldLine],
    upper: bool,
    zeros: int,
    rest: bytes,
    places: list[int],
) -> None:  # RFC 9112 §7.1
    stream = b""
    for piece in pieces:
        size = f"{len(piece):X}" if upper else f"{len(piece):x}"
        stream += b"0" * zeros + size.encode() + b"\r\n" + piece + b"\r\n"
    stream += b"0\r\n" + b"".join(f"{name}:{value}\r\n".encode() for name, value in trailers) + b"\r\n" + rest
    content, found, left = decode(implementation, cut(stream, places))
    assert content == b"".join(pieces)
    assert found == [(name, value.strip(" ")) for name, value in trailers]
    assert left == rest


def result(implementation: Implementation, pieces: list[bytes]) -> object:
    """Returns everything observable of a decoder after `pieces`, except the content before an error."""
    chunks = decoder(implementation)
    taken = 0
    try:
        for piece in pieces:
            stop = chunks.feed(piece, 0)
            taken += stop
            if chunks.done:
                break
    except implementation.module("errors").HTTPError as error:
        return error.status
    return taken, b"".join(chunks.content), chunks.done, chunks.missing, chunks.trailers


# Bytes that are nearly a chunked body: its parts in any order.
_PARTS = b'0|5|a|\r\n|\r|\n|hello|5\r\nhello\r\n|0\r\n\r\n|;a|="b"|A: b| |\x00|\xff|"|\\|;'.split(b"|")
NEARLY_CHUNKED = st.lists(st.sampled_from(_PARTS), max_size=20).map(b"".join)


@given(stream=NEARLY_CHUNKED | st.binary(max_size=60), places=st.lists(st.integers(0, 60), max_size=8).map(sorted))
@each_implementation
def test_chunks_give_the_same_however_they_are_cut(
    implementation: Implementation, stream: bytes, places: list[int]
) -> None:
    expected = result(implementation, [stream])
    for pieces in (cut(stream, places), cut(stream, range(len(stream)))):
        assert result(implementation, pieces) == expected


@given(stream=NEARLY_CHUNKED)
def test_all_implementations_decode_alike(stream: bytes) -> None:
    first, *others = [result(implementation, [stream]) for implementation in IMPLEMENTATIONS]
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("limits", "stream", "status"),
    [
        pytest.param({"chunk_line": 5}, b"5;a=b\r\n", None, id="a-chunk-line-at-the-limit"),
        pytest.param({"chunk_line": 5}, b"5;a=bc\r\n", 400, id="a-chunk-line-over-it"),
        pytest.param({"chunk_line": 5}, b"5;a=b\r", None, id="its-CR-does-not-count"),
        pytest.param({"chunk_line": 5}, b"5;a=bcd", 400, id="an-incomplete-chunk-line-over-it"),
        pytest.param({"field_size": 5}, b"0\r\nA: bc\r\n", None, id="a-trailer-at-the-limit"),
        pytest.param({"field_size": 5}, b"0\r\nA: bcd\r\n", 431, id="a-trailer-over-it"),
        pytest.param({"field_size": 5}, b"0\r\nA: bc\r", None, id="its-CR-does-not-count-either"),
        pytest.param({"field_size": 5}, b"0\r\nA: bcde", 431, id="an-incomplete-trailer-over-it"),
        pytest.param({"fields": 2}, b"0\r\nA: b\r\nA: b\r\n\r\n", None, id="as-many-trailers-as-allowed"),
        pytest.param({"fields": 2}, b"0\r\nA: b\r\nA: b\r\nA: b\r\n", 431, id="one-trailer-more"),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
def test_limits_of_chunks(
    implementation: Implementation, limits: dict[str, int], stream: bytes, status: int | None, bytewise: bool
) -> None:
    chunks = decoder(implementation, **limits)
    pieces = cut(stream, range(len(stream))) if bytewise else [stream]
    if status is None:
        feed_all(chunks, pieces)
    else:
        with pytest.raises(implementation.module("errors").HTTPError) as caught:
            feed_all(chunks, pieces)
        assert caught.value.status == status


# join.


def test_pieces_are_joined(implementation: Implementation) -> None:
    join = implementation.module("wire").join
    for kind in (list, tuple):
        assert join(kind([])) == b""
        assert join(kind([b"a", b"", b"bc\0", b"d" * 5000])) == b"abc\0" + b"d" * 5000
        with pytest.raises(TypeError):
            join(kind([b"a", "b"]))


# encode_head.


def encode(implementation: Implementation, *fields: FieldLine) -> tuple[bytes, int]:
    encoded: tuple[bytes, int] = implementation.module("wire").encode_head(list(fields))
    return encoded


def test_fields_are_sent_as_they_were_written(implementation: Implementation) -> None:
    lines = b"Content-Type: a/b\r\nX: \xe9\r\nx: a  b\r\n"
    assert encode(implementation, ("Content-Type", "a/b"), ("X", "\xe9"), ("x", " a  b\t")) == (lines, 0)
    assert encode(implementation) == (b"", 0)
    assert encode(implementation, ("Empty", "")) == (b"Empty: \r\n", 0)
    assert encode(implementation, ("Set-Cookie", "a"), ("Set-Cookie", "a"))[0] == b"Set-Cookie: a\r\n" * 2


@pytest.mark.parametrize(
    ("name", "value", "flags"),
    [
        ("Content-Length", "5", ["CONTENT_LENGTH"]),
        ("content-LENGTH", "5", ["CONTENT_LENGTH"]),
        ("Transfer-Encoding", "chunked", ["TRANSFER_ENCODING"]),
        ("Connection", "x", ["CONNECTION"]),
        ("connection", "x, Close", ["CONNECTION", "CLOSE"]),
        ("Connection", "Keep-Alive", ["CONNECTION", "KEEP_ALIVE"]),
        ("Keep-Alive", "timeout=1", ["HOP_BY_HOP"]),
        ("Proxy-Connection", "close", ["HOP_BY_HOP"]),
        ("TE", "x", ["HOP_BY_HOP"]),
        ("Trailer", "x", ["HOP_BY_HOP"]),
        ("UPGRADE", "x", ["HOP_BY_HOP"]),
    ],
)
def test_fields_of_the_protocol_are_left_out(
    implementation: Implementation, name: str, value: str, flags: list[str]
) -> None:  # RFC 9110 §7.6.1
    headers = implementation.module("headers")
    for _ in range(2):  # the second time it may come from the cache
        lines, found = encode(implementation, ("A", "1"), (name, value), ("B", "2"))
        assert lines == b"A: 1\r\nB: 2\r\n"
        assert found == sum(getattr(headers, flag) for flag in flags)


def test_date_has_a_flag_and_is_sent(implementation: Implementation) -> None:
    headers = implementation.module("headers")
    assert encode(implementation, ("date", "now")) == (b"date: now\r\n", headers.DATE)


def test_the_first_bad_field_is_reported(implementation: Implementation) -> None:
    encode_head = implementation.module("wire").encode_head
    bad: list[tuple[object, type[Exception], str]] = [
        (("A B", ""), ValueError, "not a field name"),
        (("A", "\n"), ValueError, "not a field value"),
        (("A", "\u0100"), ValueError, "not Latin-1"),
        (5, TypeError, "5"),
    ]
    for first, error, message in bad:
        for second, *_ in bad:
            with pytest.raises(error, match=message):
                encode_head([("A", "1"), first, second])


def test_a_cached_line_is_that_of_its_own_pair(implementation: Implementation) -> None:
    """The compiled encoder finds it by the address of the pair, whose slot hundreds of other pairs share."""
    encode_head = implementation.module("wire").encode_head
    pairs = [(f"X-{number}", str(number)) for number in range(2000)]
    for pair in pairs * 2:
        assert encode_head([pair]) == (b"X-%b: %b\r\n" % (pair[1].encode(), pair[1].encode()), 0)
    long = ("X", "x" * 2000)
    for _ in range(2):
        assert encode_head([pairs[0], long, pairs[-1]])[0] == b"X-0: 0\r\nX: %b\r\nX-1999: 1999\r\n" % (b"x" * 2000)


def test_any_iterable_of_fields_will_do(implementation: Implementation) -> None:
    encode_head = implementation.module("wire").encode_head
    for kind in (list, tuple, iter):
        assert encode_head(kind([("A", "1"), ("Connection", "x"), ("B", "2")]))[0] == b"A: 1\r\nB: 2\r\n"


BAD_NAMES = [
    "",
    " ",
    "A ",
    " A",
    "A B",
    "A:",
    "A\r",
    "A\n",
    "A\r\nB",
    "A\0",
    "é",
    "Ａ",
    "A\t",
    "A(",
    '"A"',
    "A/B",
    "A\x7f",
]
BAD_VALUES = [
    "a\r\nB: c",
    "a\r",
    "a\n",
    "\r\n",
    "a\0",
    "\x01",
    "\x1f",
    "\x7f",
    "\x0b",
    "\u0100",
    "\u20ac",
    "\ud800",
    "Ａ",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_never_sent(implementation: Implementation, name: str) -> None:  # RFC 9110 §5.1
    for _ in range(2):
        with pytest.raises(ValueError, match=r"not|says"):
            encode(implementation, ("A", "1"), (name, "a"))


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize("name", ["X", "Connection", "Content-Length"])
def test_a_value_that_would_split_the_response_is_never_sent(
    implementation: Implementation, name: str, value: str
) -> None:  # RFC 9110 §5.5
    for _ in range(2):
        with pytest.raises(ValueError, match=r"not|says"):
            encode(implementation, (name, value))


@given(
    fields=st.lists(
        st.tuples(
            st.text(st.characters(max_codepoint=0x101), max_size=6),
            st.text(st.characters(max_codepoint=0x101), max_size=8),
        ),
        max_size=4,
    )
)
@each_implementation
def test_encoded_fields_are_parsed_back_or_rejected(implementation: Implementation, fields: list[FieldLine]) -> None:
    try:
        lines, _ = encode(implementation, *fields)
    except ValueError:
        return
    own = {"content-length", "transfer-encoding", "connection"}
    own |= {"keep-alive", "proxy-connection", "te", "trailer", "upgrade"}
    request = parse(implementation, b"GET / HTTP/1.1\r\n" + lines)
    assert request.fields == [(name.lower(), value.strip(" \t")) for name, value in fields if name.lower() not in own]


def test_the_memo_of_sent_lines_is_bounded(implementation: Implementation) -> None:
    for number in range(3000):
        assert encode(implementation, ("X", str(number)))[0] == b"X: %d\r\n" % number
    assert encode(implementation, ("X", "0"))[0] == b"X: 0\r\n"
