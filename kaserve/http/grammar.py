"""The character classes of HTTP (RFC 9110 §5.5, §5.6; RFC 9112 §2, §3, §7).

Knows which bytes may stand where, as regular expressions. Does not decide anything: what a well-formed field means is
the business of `target` and `framing`. Only ASCII counts here. Python's own `int()`, `strip()`, `lower()` and
`isdigit()` accept more than HTTP does, so numbers and tokens are matched against these expressions first.

Messages are bytes, and so most expressions match bytes. `TCHAR` and `TOKEN_TEXT` are for field values that are str
already.
"""

from __future__ import annotations

import re

__all__ = [
    "CHUNK_SIZE_LINE",
    "CHUNK_SIZE_LINE_START",
    "DIGITS",
    "FIELD_LINE",
    "FIELD_NAME",
    "FIELD_VALUE",
    "LONE_LINE_END",
    "OWS",
    "QUOTED_STRING_TEXT",
    "REASON_PHRASE",
    "REQUEST_LINE",
    "REQUEST_LINE_START",
    "STATUS_LINE",
    "TCHAR",
    "TOKEN",
    "TOKEN_TEXT",
]

OWS = b" \t"  # optional white space, RFC 9110 §5.6.3

# One character of a token, as a part of other expressions (RFC 9110 §5.6.2).
TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"

_TCHAR = TCHAR.encode("ascii")
_FIELD_CHARS = rb"[\t\x20-\x7e\x80-\xff]*"  # VCHAR, obs-text, and the white space between them, RFC 9110 §5.5
# Any visible character: browsers send some that RFC 3986 leaves out ("|", "{", "}"). A fragment is never sent, and
# readers disagree on what a "#" would mean, so it is rejected.
_TARGET_CHARS = rb"[!-\"$-~]+"
_QUOTED_STRING = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'  # RFC 9110 §5.6.4

TOKEN = re.compile(_TCHAR + rb"+")
TOKEN_TEXT = re.compile(TCHAR + "+")
# A quoted string as a part of expressions over str.
QUOTED_STRING_TEXT = _QUOTED_STRING.decode("ascii")
DIGITS = re.compile(rb"[0-9]+")
FIELD_NAME = TOKEN
FIELD_VALUE = re.compile(_FIELD_CHARS)
# The white space around the value is stripped afterwards, which is cheaper than an expression that leaves it out.
FIELD_LINE = re.compile(rb"(" + _TCHAR + rb"+):(" + _FIELD_CHARS + rb")")
REQUEST_LINE = re.compile(rb"(" + _TCHAR + rb"+) (" + _TARGET_CHARS + rb") HTTP/([0-9])\.([0-9])")

REASON_PHRASE = FIELD_VALUE  # the same characters (RFC 9112 §4), and perhaps none
# The reason may be missing (RFC 9112 §4). The space in front of it may not, but often is missing then, too: nothing but
# an empty reason can be meant, and a reader may parse the line word by word.
STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([0-9]{3})(?: (" + _FIELD_CHARS + rb"))?")

# What a request line may look like while it is still arriving. Bytes that do not match can never become a request: a
# TLS ClientHello, a bare LF, binary junk. Each optional group stands for the bytes that may not have arrived yet.
REQUEST_LINE_START = re.compile(
    _TCHAR + rb"+(?: (?:" + _TARGET_CHARS + rb"(?: (?:H(?:T(?:T(?:P(?:/(?:[0-9](?:\.(?:[0-9]\r?)?)?)?)?)?)?)?)?)?)?)?"
)
# A CR without LF or an LF without CR (RFC 9112 §2.2) or a NUL. A CR at the very end does not count: its LF may follow.
LONE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\x00")

# chunk-size [ chunk-ext ], RFC 9112 §7.1. Any real length needs sixteen hexadecimal digits at most; more of them after
# the leading zeros are an attempt at an overflow. White space is allowed around the ";" and "=" of an extension only
# (BWS).
_OPEN_QUOTE = _QUOTED_STRING.removesuffix(b'"') + rb"\\?"
_CHUNK_SIZE = rb"(0*[0-9A-Fa-f]{1,16})"
_CHUNK_EXTENSION = rb"[ \t]*;[ \t]*" + _TCHAR + rb"+(?:[ \t]*=[ \t]*(?:" + _TCHAR + rb"+|" + _QUOTED_STRING + rb"))?"
CHUNK_SIZE_LINE = re.compile(_CHUNK_SIZE + rb"(?:" + _CHUNK_EXTENSION + rb")*")

# What such a line may look like while it is still arriving, its CR included. As in REQUEST_LINE_START, each optional
# group stands for the bytes that may not have arrived yet. A quoted string has its closing quote cut off, and perhaps
# the second half of a pair that begins with a backslash.
CHUNK_SIZE_LINE_START = re.compile(
    rb"(?:" + _CHUNK_SIZE + rb"(?:" + _CHUNK_EXTENSION + rb")*"
    rb"(?:\r|[ \t]*(?:;[ \t]*(?:" + _TCHAR + rb"+[ \t]*(?:=[ \t]*(?:" + _OPEN_QUOTE + rb")?)?)?)?))?"
)
