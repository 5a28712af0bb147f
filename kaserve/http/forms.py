"""Forms: the body of a request as fields and files (HTML, application/x-www-form-urlencoded; RFC 7578).

Knows both encodings of a form, and what a program wants to know of a file. Does not know the syntax of multipart
(`multipart`), nor how a body was received (`sinks`).

A file of a form is a part of `Request.body`, which is in memory or in a temporary file already. So it is not copied,
and needs no descriptor of its own.
"""

from __future__ import annotations

import io
from typing import BinaryIO
from urllib.parse import parse_qsl

from .errors import HTTPError, body_too_large
from .multi_mapping import MultiMapping
from .multipart import FormReader, Part, PartHeaders, parse_boundary, parse_file_name

__all__ = ["Form", "UploadedFile", "parse_form", "parse_query"]

_URLENCODED = "application/x-www-form-urlencoded"
_READ_SIZE = 64 * 1024


def parse_query(text: str) -> MultiMapping[str]:
    """Returns the parameters of a query string: percent-decoded as UTF-8, with spaces for plus signs, and U+FFFD for
    what is not UTF-8 (the URL standard, §5.1). A name without an equals sign has the value ""."""
    return MultiMapping(parse_qsl(text, keep_blank_values=True))


class UploadedFile:
    """A file of a form.

    Attributes:
        file_name: the name that the client gave it, without directories, decoded as UTF-8. It is the client's choice:
            a program that stores the file under this name must expect one that exists already, or a hidden one.
        content_type: the Content-Type that the client gave it; "" for none. Also the client's choice.
        size: bytes.
    """

    __slots__ = ("_body", "_file", "_offset", "content_type", "file_name", "size")

    def __init__(self, body: BinaryIO, offset: int, size: int, file_name: str, content_type: str) -> None:
        """Makes a file of `size` bytes of `body`, from the position `offset` on."""
        self._body = body
        self._offset = offset
        self._file: BinaryIO | None = None
        self.size = size
        self.file_name = file_name
        self.content_type = content_type

    @property
    def file(self) -> BinaryIO:
        """The content, as a binary file that is read-only and seekable. It can be read until the response has been
        sent, when the body of the request is closed."""
        if self._file is None:
            self._file = io.BufferedReader(_Section(self._body, self._offset, self.size))
        return self._file

    def __repr__(self) -> str:
        return f"<UploadedFile {self.file_name!r}, {self.size} bytes>"


class _Section(io.RawIOBase):
    """A part of another file, whose position it moves."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._whole = file
        self._offset = offset
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"the position in a file must be 0 or more, not {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed: any writable buffer
        self._whole.seek(self._offset + min(self._position, self._size))
        data = self._whole.read(min(len(buffer), max(0, self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class Form(MultiMapping[str]):
    """The fields of a form as a mapping, and its files in another one.

    Attributes:
        files: the files by the name of their field. A file input for which the user chose no file is in neither.
    """

    __slots__ = ("files",)

    def __init__(self, fields: list[tuple[str, str]], files: list[tuple[str, UploadedFile]]) -> None:
        """Makes a form of pairs of name and value."""
        super().__init__(fields)
        self.files: MultiMapping[UploadedFile] = MultiMapping(files)


def parse_form(body: BinaryIO, content_type: str, *, max_size: int, max_memory: int, max_parts: int) -> Form:
    """Returns the form in `body`.

    Args:
        body: the whole body, which is read from its start.
        content_type: the Content-Type of the request.
        max_size: bytes of the body.
        max_memory: bytes of all fields together, names included; files do not count.
        max_parts: number of fields and files.

    Raises:
        HTTPError: 400 for a malformed form, 413 for one beyond a limit, 415 for anything else than a form.
    """
    size = body.seek(0, io.SEEK_END)
    body.seek(0)
    if size > max_size:
        raise body_too_large(max_size)
    media_type = content_type.partition(";")[0].strip(" \t").lower()
    if media_type == _URLENCODED:
        if size > max_memory:
            raise body_too_large(max_memory)
        form = _parse_urlencoded(body.read(), max_parts)
    elif media_type == "multipart/form-data":
        receiver = _Receiver(body, max_memory)
        reader = receiver.reader = FormReader(parse_boundary(content_type), receiver, max_parts)
        while data := body.read(_READ_SIZE):
            reader.write(data)
        reader.finish()
        form = Form(receiver.fields, receiver.files)
    else:
        raise HTTPError(415, f"the body must be a form: {_URLENCODED} or multipart/form-data")
    body.seek(0)
    return form


def _parse_urlencoded(body: bytes, max_parts: int) -> Form:
    try:
        fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=max_parts)
    except ValueError:
        raise HTTPError(413, f"the form has more than {max_parts:,} fields") from None
    return Form(fields, [])


class _Receiver:
    """Receives the parts of a multipart form: fields into memory, of files only where they are in the body."""

    reader: FormReader

    def __init__(self, body: BinaryIO, max_memory: int) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, UploadedFile]] = []
        self.body = body
        self._max_memory = max_memory
        self._memory_left = max_memory

    def keep(self, size: int) -> None:
        """Counts `size` bytes that stay in memory. Raises HTTPError 413 if there are too many."""
        self._memory_left -= size
        if self._memory_left < 0:
            raise HTTPError(413, f"the fields of the form have more than {self._max_memory:,} bytes")

    def open_part(self, headers: PartHeaders) -> Part:
        if headers.name is None:  # RFC 7578 §4.2: it MUST have one
            raise HTTPError(400, "a part of the form has no name")
        self.keep(len(headers.name))
        name = _decode(headers.name)
        if headers.file_name is None:
            return _FieldPart(self, name)
        self.keep(len(headers.file_name))
        return _FilePart(self, name, headers)


class _FieldPart:
    """A field, whose value is kept."""

    def __init__(self, receiver: _Receiver, name: str) -> None:
        self._receiver = receiver
        self._name = name
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._receiver.keep(len(data))
        self._pieces.append(data)

    def finish(self) -> None:
        self._receiver.fields.append((self._name, _decode(b"".join(self._pieces))))


class _FilePart:
    """A file, of which only the place in the body is kept."""

    def __init__(self, receiver: _Receiver, name: str, headers: PartHeaders) -> None:
        self._receiver = receiver
        self._name = name
        self._headers = headers
        self._offset = 0
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._size:
            self._offset = self._receiver.reader.position
        self._size += len(data)

    def finish(self) -> None:
        sent = self._headers.file_name
        if not sent and not self._size:
            return  # the user chose no file (the HTML standard, §4.10.21.4)
        file_name = _decode(parse_file_name(sent or b""))
        content_type = self._headers.content_type
        file = UploadedFile(self._receiver.body, self._offset, self._size, file_name, content_type)
        self._receiver.files.append((self._name, file))


def _decode(text: bytes) -> str:
    """RFC 7578 §5.1: names and values are UTF-8 in practice."""
    return text.decode("utf-8", "replace")
