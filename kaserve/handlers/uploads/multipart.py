"""Forms with files as browsers send them: multipart/form-data (RFC 7578, RFC 2046 §5.1).

Knows boundaries, the heads of parts, and the names that files bring. Does not know requests or where files go: it is
fed piece by piece, and hands on piece by piece, keeping no more than a head or a boundary takes. There is no parser of
this kind in the standard library, and the server needs nothing else.
"""

from __future__ import annotations

import re
from typing import Protocol

from ...http.errors import HTTPError

__all__ = ["FormReader", "Part", "boundary_of", "file_name"]

_MAX_HEAD = 8192  # bytes of the head of one part
_MAX_PARTS = 10_000

# RFC 2046 §5.1.1 allows 70 characters, which may also stand in quotes.
_BOUNDARY = re.compile(
    r"multipart/form-data[ \t]*(?:;[^\"]*?)?;[ \t]*boundary="
    r"(?:\"([ -!#-\[\]-~]{1,70})\"|([^\s\";,]{1,70}))[ \t]*(?:;.*)?",
    re.IGNORECASE | re.ASCII,
)
_DISPOSITION = re.compile(rb"content-disposition[ \t]*:[ \t]*form-data[ \t]*(;.*)", re.IGNORECASE)
_FILE_NAME = re.compile(rb";[ \t]*filename=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\";]+))", re.IGNORECASE)
_QUOTED = re.compile(rb";[ \t]*+(?!filename=)[^\";=]+=\"(?:[^\"\\]|\\.)*\"", re.IGNORECASE)
_ESCAPED = re.compile(rb"%(22|0[AaDd])|\\(\")")  # all that HTML escapes (§4.10.21.8), and what curl does


class Part(Protocol):
    """What takes the content of one part."""

    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...


class _Form(Protocol):
    def open_part(self, name: bytes | None) -> Part:
        """A part begins; name: as it was sent, of a file; None for any other field."""


def boundary_of(content_type: str) -> bytes:
    """The boundary in the Content-Type of a form. Raises HTTPError 415 for anything else."""
    found = _BOUNDARY.fullmatch(content_type)
    if found is None:
        raise HTTPError(415, "only forms of multipart/form-data are taken here")
    return (found[1] or found[2]).rstrip(" ").encode("ascii", "replace")


def file_name(sent: bytes) -> bytes:
    """The name of a file from what was sent of it: without directories, and never one that means something else.

    Raises HTTPError 400.
    """
    name = re.split(rb"[/\\]", sent)[-1]
    if name in (b"", b".", b"..") or re.search(rb"[\x00-\x1f\x7f]", name) is not None:
        raise HTTPError(400, "a file in the form has no usable name")
    return name


class FormReader:
    """Raises HTTPError 400 from `write` and `finish` for what is no form."""

    def __init__(self, boundary: bytes, form: _Form) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._form = form
        self._received = bytearray(b"\r\n")  # as if a line had ended before, so that all delimiters are alike
        self._advance = self._skip_preamble
        self._part: Part | None = None
        self._parts = 0

    def write(self, data: bytes) -> None:
        self._received += data
        while self._advance():
            pass

    def finish(self) -> None:
        """There is no more."""
        if self._advance != self._skip_epilogue:
            raise HTTPError(400, "the form is incomplete")

    # What comes next; each is True when it is over, and something else comes.

    def _skip_preamble(self) -> bool:
        return self._take_content(None)

    def _read_part(self) -> bool:
        assert self._part is not None
        if not self._take_content(self._part):
            return False
        self._part.finish()
        self._part = None
        return True

    def _take_content(self, part: Part | None) -> bool:
        """Up to the next delimiter, or up to what may be the beginning of one."""
        received = self._received
        end = received.find(self._delimiter)
        stop = end if end >= 0 else len(received) - len(self._delimiter) + 1
        if stop > 0:
            if part is not None:
                part.write(bytes(received[:stop]))
            del received[:stop]
        if end < 0:
            return False
        del received[: len(self._delimiter)]
        self._advance = self._read_delimiter
        return True

    def _read_delimiter(self) -> bool:
        """What stands behind it: two hyphens, and that was the last; or the end of the line, and padding before."""
        received = self._received
        if len(received) < 2:
            return False
        if received.startswith(b"--"):
            self._advance = self._skip_epilogue
            return True
        line_end = received.find(b"\r\n")
        if line_end < 0 and len(received) < _MAX_HEAD:
            return False
        if line_end < 0 or received[:line_end].strip(b" \t"):
            raise HTTPError(400, "a boundary of the form is malformed")
        del received[:line_end]
        self._advance = self._read_head
        return True

    def _read_head(self) -> bool:
        received = self._received  # the line end before the first field is still there
        end = received.find(b"\r\n\r\n")
        if max(end, len(received) if end < 0 else 0) > _MAX_HEAD:
            raise HTTPError(400, "the head of a part is too large")
        if end < 0:
            return False
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise HTTPError(400, "there are too many parts")
        self._part = self._form.open_part(_name_in(bytes(received[:end])))
        del received[: end + 4]
        self._advance = self._read_part
        return True

    def _skip_epilogue(self) -> bool:
        self._received.clear()
        return False


def _name_in(head: bytes) -> bytes | None:
    """The name of the file in the head of a part."""
    for line in head.split(b"\r\n"):
        disposition = _DISPOSITION.fullmatch(line)
        if disposition is not None:
            found = _FILE_NAME.search(_QUOTED.sub(b"", disposition[1]))  # which may not hide in another parameter
            if found is not None:
                return _ESCAPED.sub(_unescape, found[1] if found[1] is not None else found[2])
    return None


def _unescape(found: re.Match[bytes]) -> bytes:
    return found[2] or bytes.fromhex(found[1].decode("ascii"))
