"""Forms with files as browsers send them: multipart/form-data (RFC 7578, RFC 2046 §5.1).

Knows boundaries, the headers of parts, and the names of files. Does not know requests or where files go: it is given
the body piece by piece, and passes it on piece by piece, keeping no more than the headers of a part or a boundary. The
standard library has a parser for complete messages in memory only (`email`), and python-multipart would be the only
dependency of kaserve. `Uploads` and `Request.form` read forms with it, and a sink of a program's own may.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from .errors import HTTPError

__all__ = ["FormReader", "FormReceiver", "Part", "PartHeaders", "parse_boundary", "parse_file_name"]

_MAX_HEADERS = 8192  # bytes, of one part
_MAX_PARTS = 10_000

# RFC 2046 §5.1.1 allows 70 characters, which may also stand in quotes.
_BOUNDARY = re.compile(
    r"multipart/form-data[ \t]*(?:;[^\"]*?)?;[ \t]*boundary="
    r"(?:\"([ -!#-\[\]-~]{1,70})\"|([^\s\";,]{1,70}))[ \t]*(?:;.*)?",
    re.IGNORECASE | re.ASCII,
)
_DISPOSITION = re.compile(rb"content-disposition[ \t]*:[ \t]*form-data[ \t]*(;.*)", re.IGNORECASE)
_FILE_NAME = re.compile(rb";[ \t]*filename=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\";]+))", re.IGNORECASE)
_NAME = re.compile(rb";[ \t]*name=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\";]+))", re.IGNORECASE)
# Quoted parameters of other names. They are removed before a search, since a quoted text may look like a parameter.
_NOT_FILE_NAME = re.compile(rb";[ \t]*+(?!filename=)[^\";=]+=\"(?:[^\"\\]|\\.)*\"", re.IGNORECASE)
_NOT_NAME = re.compile(rb";[ \t]*+(?!name=)[^\";=]+=\"(?:[^\"\\]|\\.)*\"", re.IGNORECASE)
_CONTENT_TYPE = re.compile(rb"content-type[ \t]*:[ \t]*([\x20-\x7e\t]*)", re.IGNORECASE)
_ESCAPED = re.compile(rb"%(22|0[AaDd])|\\(\")")  # HTML escapes these three (§4.10.21.8), curl a quote by a backslash


class Part(Protocol):
    """Receives the content of one part."""

    def write(self, data: bytes) -> None:
        """Receives the next piece of the content, which is not empty."""

    def finish(self) -> None:
        """Called after the last piece."""


class PartHeaders(NamedTuple):
    """What the headers of a part say (RFC 7578 §4.2, §4.4).

    Attributes:
        name: the name of the field, as bytes that are UTF-8 in practice; None if the part has none, which is an error.
        file_name: the name of the file, as it was sent, directories included; b"" if the user chose no file, None if
            the part is not a file. See `parse_file_name`.
        content_type: the Content-Type; "" for none, which means text/plain.
    """

    name: bytes | None = None
    file_name: bytes | None = None
    content_type: str = ""


class FormReceiver(Protocol):
    """Receives the parts of a form."""

    def open_part(self, headers: PartHeaders) -> Part:
        """Called at the beginning of a part.

        Args:
            headers: what its headers say.

        Returns:
            What receives the content of the part.

        Raises:
            HTTPError: leaves `FormReader.write`.
        """


def parse_boundary(content_type: str) -> bytes:
    """Returns the boundary in the Content-Type of a form.

    Raises:
        HTTPError: 415 for anything that is not such a form.
    """
    found = _BOUNDARY.fullmatch(content_type)
    if found is None:
        raise HTTPError(415, "the body must be multipart/form-data, with a boundary")
    return (found[1] or found[2]).rstrip(" ").encode("ascii", "replace")


def parse_file_name(sent: bytes) -> bytes:
    """Returns the name of a file from what was sent as such: without directories, and never one with another meaning.

    Raises:
        HTTPError: 400 for a name that no file can have.
    """
    name = re.split(rb"[/\\]", sent)[-1]
    if name in (b"", b".", b"..") or re.search(rb"[\x00-\x1f\x7f]", name) is not None:
        raise HTTPError(400, "a file in the form has no usable name")
    return name


class FormReader:
    """Reads a form piece by piece. `write` and `finish` raise HTTPError 400 for what is not a form.

    >>> class Sizes:
    ...     def __init__(self): self.found = {}
    ...     def open_part(self, headers): self.name = headers.name; self.found[headers.name] = 0; return self
    ...     def write(self, data): self.found[self.name] += len(data)
    ...     def finish(self): pass
    >>> sizes = Sizes()
    >>> reader = FormReader(b"xyz", sizes)
    >>> reader.write(b'--xyz\\r\\nContent-Disposition: form-data; name="a"\\r\\n\\r\\nhello\\r\\n--xyz--\\r\\n')
    >>> reader.finish()
    >>> sizes.found
    {b'a': 5}
    """

    def __init__(self, boundary: bytes, form: FormReceiver, max_parts: int = _MAX_PARTS) -> None:
        """Makes a reader of one form.

        Args:
            boundary: what is between the parts, without the hyphens; see `parse_boundary`.
            form: receives the parts.
            max_parts: number of parts beyond which the form is rejected.
        """
        self._delimiter = b"\r\n--" + boundary
        self._form = form
        self._received = bytearray(b"\r\n")  # then the first delimiter is like the others
        self._advance = self._skip_preamble
        self._part: Part | None = None
        self._parts = 0
        self._max_parts = max_parts
        self._fed = 0  # bytes of the form that `write` has been given

    @property
    def position(self) -> int:
        """The position in the form, in bytes, of what is passed on next: in `Part.write`, that of the data."""
        return max(0, self._fed - len(self._received))  # a line end was added in front

    def write(self, data: bytes) -> None:
        """Reads the next piece of the form."""
        self._received += data
        self._fed += len(data)
        while self._advance():
            pass

    def finish(self) -> None:
        """Checks that the form is complete, after the last piece."""
        if self._advance != self._skip_epilogue:
            raise HTTPError(400, "the form is incomplete")

    # The states. Each reads what it can, and returns True when another state is due, False when more bytes are needed.

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
        """Passes on what comes before the next delimiter, or before what may be the beginning of one."""
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
        """Reads what follows a delimiter: two hyphens after the last one, otherwise padding and the end of the line."""
        received = self._received
        if len(received) < 2:
            return False
        if received.startswith(b"--"):
            self._advance = self._skip_epilogue
            return True
        line_end = received.find(b"\r\n")
        if line_end < 0 and len(received) < _MAX_HEADERS:
            return False
        if line_end < 0 or received[:line_end].strip(b" \t"):
            raise HTTPError(400, "a boundary of the form is malformed")
        del received[:line_end]
        self._advance = self._read_headers
        return True

    def _read_headers(self) -> bool:
        """Reads the headers of a part, and opens it."""
        received = self._received  # the line end before the first header is still there
        end = received.find(b"\r\n\r\n")
        if max(end, len(received) if end < 0 else 0) > _MAX_HEADERS:
            raise HTTPError(400, "the headers of a part are too large")
        if end < 0:
            return False
        self._parts += 1
        if self._parts > self._max_parts:
            raise HTTPError(413, f"the form has more than {self._max_parts:,} parts")
        self._part = self._form.open_part(_parse_headers(bytes(received[:end])))
        del received[: end + 4]
        self._advance = self._read_part
        return True

    def _skip_epilogue(self) -> bool:
        self._received.clear()
        return False


def _parse_headers(headers: bytes) -> PartHeaders:
    """What the headers of a part say; those that are malformed or not known are ignored."""
    found = PartHeaders()
    for line in headers.split(b"\r\n"):
        if (disposition := _DISPOSITION.fullmatch(line)) is not None:
            found = found._replace(
                name=_parameter(_NAME, _NOT_NAME.sub(b"", disposition[1])),
                file_name=_parameter(_FILE_NAME, _NOT_FILE_NAME.sub(b"", disposition[1])),
            )
        elif (content_type := _CONTENT_TYPE.fullmatch(line)) is not None:
            found = found._replace(content_type=content_type[1].decode("ascii").strip())
    return found


def _parameter(pattern: re.Pattern[bytes], parameters: bytes) -> bytes | None:
    """The value of a parameter without quotes and escapes; None if it is missing."""
    found = pattern.search(parameters)
    return None if found is None else _ESCAPED.sub(_unescape, found[1] if found[1] is not None else found[2])


def _unescape(found: re.Match[bytes]) -> bytes:
    return found[2] or bytes.fromhex(found[1].decode("ascii"))
