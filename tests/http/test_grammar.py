"""The character classes, byte by byte, compared with the ABNF of the RFCs; and no input makes an expression slow."""

from __future__ import annotations

import re
import string
from itertools import chain, product

import pytest

from kaserve.http.grammar import (
    CHUNK_SIZE_LINE,
    CHUNK_SIZE_LINE_START,
    DIGITS,
    FIELD_LINE,
    FIELD_NAME,
    FIELD_VALUE,
    LONE_LINE_END,
    OWS,
    REQUEST_LINE,
    REQUEST_LINE_START,
    TCHAR,
    TOKEN,
    TOKEN_TEXT,
)

# RFC 9110 §5.6.2: tchar, and appendix B of RFC 5234 for the rest.
TCHARS = set(b"!#$%&'*+-.^_`|~" + string.digits.encode() + string.ascii_letters.encode())
VCHAR = set(range(0x21, 0x7F))
OBS_TEXT = set(range(0x80, 0x100))
EVERY_BYTE = range(256)


def matching(pattern: re.Pattern[bytes], front: bytes = b"", back: bytes = b"") -> set[int]:
    """Returns the bytes for which `pattern` matches all of front + byte + back."""
    return {byte for byte in EVERY_BYTE if pattern.fullmatch(front + bytes([byte]) + back)}


def test_a_token_has_tchars() -> None:  # RFC 9110 §5.6.2
    assert matching(TOKEN) == TCHARS
    assert matching(FIELD_NAME) == TCHARS
    assert TOKEN.fullmatch(b"") is None


def test_a_token_in_text_has_the_same_characters() -> None:
    everything = [chr(number) for number in range(0x3000)]
    assert {text for text in everything if TOKEN_TEXT.fullmatch(text)} == {chr(byte) for byte in TCHARS}
    assert {text for text in everything if re.fullmatch(TCHAR, text)} == {chr(byte) for byte in TCHARS}
    assert TOKEN_TEXT.fullmatch("") is None
    assert TOKEN_TEXT.fullmatch("a-b")


def test_digits_are_ascii() -> None:  # RFC 5234 B.1
    assert matching(DIGITS) == set(b"0123456789")
    assert DIGITS.fullmatch(b"") is None


def test_optional_white_space_is_space_and_tab() -> None:  # RFC 9110 §5.6.3
    assert set(OWS) == {0x20, 0x09}


def test_a_field_value_has_visible_characters_and_obs_text() -> None:  # RFC 9110 §5.5
    assert matching(FIELD_VALUE) == VCHAR | OBS_TEXT | set(b" \t")
    assert FIELD_VALUE.fullmatch(b"") is not None


def test_a_field_line_has_a_name_a_colon_and_a_value() -> None:  # RFC 9112 §5
    assert matching(FIELD_LINE, b"", b": a") == TCHARS
    assert matching(FIELD_LINE, b"a:", b"") == VCHAR | OBS_TEXT | set(b" \t")
    assert matching(FIELD_LINE, b"a", b"b") == {ord(":")}
    match = FIELD_LINE.fullmatch(b"a: b:c ")
    assert match is not None
    assert match.groups() == (b"a", b" b:c ")


def test_a_request_line_has_a_method_a_target_and_a_version() -> None:  # RFC 9112 §3
    assert matching(REQUEST_LINE, b"", b" / HTTP/1.1") == TCHARS
    assert matching(REQUEST_LINE, b"A", b"/ HTTP/1.1") == {0x20}
    assert matching(REQUEST_LINE, b"A /", b" HTTP/1.1") == VCHAR - {ord("#")}
    assert matching(REQUEST_LINE, b"A /", b"HTTP/1.1") == {0x20}
    assert matching(REQUEST_LINE, b"A / HTTP/1.", b"") == set(b"0123456789")
    assert matching(REQUEST_LINE, b"A / HTTP/", b".1") == set(b"0123456789")
    assert matching(REQUEST_LINE, b"A / HTTP/1", b"1") == {ord(".")}
    assert matching(REQUEST_LINE, b"A / HTTP/1.1", b"") == set()


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r", b"M!x /a?b HTTP/2.0\r", b"OPTIONS * HTTP/1.0\r"])
def test_every_start_of_a_request_line_is_one(line: bytes) -> None:
    for end in range(1, len(line) + 1):
        assert REQUEST_LINE_START.fullmatch(line[:end]), line[:end]


def test_no_other_start_of_a_request_line_matches() -> None:
    """For every byte: it may follow a start if it does so in some request line, and only then."""
    starts = [b"", b"G", b"G ", b"G /", b"G / ", *(b"G / HTTP/1.1"[:end] for end in range(5, 13))]
    ends = [b"", b" / HTTP/1.1", b"/ HTTP/1.1", b" HTTP/1.1", *(b"HTTP/1.1"[start:] for start in range(8))]
    for start in starts:
        lines = {
            byte for byte in EVERY_BYTE if any(REQUEST_LINE.fullmatch(start + bytes([byte]) + end) for end in ends)
        }
        may_end = REQUEST_LINE.fullmatch(start) is not None
        assert matching(REQUEST_LINE_START, start) == lines | ({0x0D} if may_end else set()), start


@pytest.mark.parametrize("data", [b"\n", b"a\nb", b"\r\r\n", b"a\rb", b"\r\n\n", b"\x00", b"a\r\n\rb", b"\r\n\r\r"])
def test_a_lone_line_end(data: bytes) -> None:  # RFC 9112 §2.2
    assert LONE_LINE_END.search(data)


@pytest.mark.parametrize("data", [b"", b"a", b"\r\n", b"a\r\nb\r\n\r\n", b"a\r", b"\r\n\r"])
def test_no_lone_line_end(data: bytes) -> None:
    assert LONE_LINE_END.search(data) is None


def test_a_chunk_size_is_hexadecimal() -> None:  # RFC 9112 §7.1
    assert matching(CHUNK_SIZE_LINE) == set(b"0123456789abcdefABCDEF")
    assert CHUNK_SIZE_LINE.fullmatch(b"") is None
    assert CHUNK_SIZE_LINE.fullmatch(b"f" * 16) is not None
    assert CHUNK_SIZE_LINE.fullmatch(b"f" * 17) is None
    assert CHUNK_SIZE_LINE.fullmatch(b"0" * 100 + b"f" * 16) is not None
    assert CHUNK_SIZE_LINE.fullmatch(b"0" * 100 + b"1" + b"0" * 16) is None


def test_a_chunk_extension() -> None:  # RFC 9112 §7.1.1, RFC 9110 §5.6.4
    assert matching(CHUNK_SIZE_LINE, b"5;", b"") == TCHARS
    assert matching(CHUNK_SIZE_LINE, b"5;a=", b"") == TCHARS
    assert matching(CHUNK_SIZE_LINE, b"5", b";a") >= set(b"0123456789abcdefABCDEF \t")
    text = set(b"\t !") | set(range(0x23, 0x5C)) | set(range(0x5D, 0x7F)) | OBS_TEXT
    assert matching(CHUNK_SIZE_LINE, b'5;a="', b'"') == text
    assert matching(CHUNK_SIZE_LINE, b'5;a="\\', b'"') == VCHAR | OBS_TEXT | set(b" \t")


def test_the_start_of_a_chunk_size_line_matches_if_it_can_be_completed() -> None:
    """All texts of up to five of these bytes, each with every ending that completes a line."""
    ends = (b"", b"5", b"a", b'"', b'a"', b";a", b"=a")
    for text in map(bytes, chain.from_iterable(product(b'5;a= "\\\r{', repeat=length) for length in range(6))):
        line = text.removesuffix(b"\r")
        endings = ends if line == text else (b"",)
        possible = any(CHUNK_SIZE_LINE.fullmatch(line + end) for end in endings)
        assert (CHUNK_SIZE_LINE_START.fullmatch(text) is not None) == (possible or not text), text


@pytest.mark.parametrize(
    ("pattern", "data"),
    [
        pytest.param(CHUNK_SIZE_LINE_START, b"5" + b";a=b" * 16000 + b"@", id="the-start-of-extensions"),
        pytest.param(CHUNK_SIZE_LINE_START, b'5;a="' + b"\\" * 65000 + b"\r", id="the-start-of-quotes"),
        pytest.param(CHUNK_SIZE_LINE_START, b"5" + b";a " * 16000 + b"\r", id="the-start-of-white-space"),
        pytest.param(CHUNK_SIZE_LINE, b"5" + b";a=b" * 16000 + b"@", id="extensions"),
        pytest.param(CHUNK_SIZE_LINE, b"5;a=" + b'"' * 65001, id="quotes"),
        pytest.param(CHUNK_SIZE_LINE, b'5;a="' + b"\\" * 65001, id="backslashes"),
        pytest.param(CHUNK_SIZE_LINE, b"5" + b" " * 65000, id="white-space-after-a-size"),
        pytest.param(CHUNK_SIZE_LINE, b"5;a" + b"a" * 65000 + b"@", id="a-long-extension"),
        pytest.param(CHUNK_SIZE_LINE, b"0" * 2000 + b"@", id="leading-zeros"),
        pytest.param(REQUEST_LINE, b"a" * 65000, id="a-long-method"),
        pytest.param(REQUEST_LINE, b"a " + b"/" * 65000, id="a-long-target"),
        pytest.param(REQUEST_LINE_START, b"a " + b"/" * 65000 + b" HTTP/1.1\n", id="the-start-of-a-request-line"),
        pytest.param(FIELD_LINE, b"a" * 65000, id="a-long-name"),
        pytest.param(FIELD_LINE, b"a:" + b" " * 65000 + b"\0", id="white-space-in-a-value"),
        pytest.param(LONE_LINE_END, b"\r\n" * 32000, id="line-ends"),
    ],
)
def test_no_input_makes_an_expression_backtrack(pattern: re.Pattern[bytes], data: bytes) -> None:
    """No time is measured: an expression that tries every way to split these inputs would take hours."""
    assert pattern.fullmatch(data) is None
