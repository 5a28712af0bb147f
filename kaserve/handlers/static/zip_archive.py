"""A directory as a zip archive, made while it is sent.

Knows the order of a walk and what to put into an archive. Does not know the format, which is the standard library's
`zipfile`: it writes to streams that cannot seek, with the size and checksum of an entry after it, and changes to ZIP64
where 4 GiB or 65535 entries are not enough. The streaming libraries on PyPI are built on it as well; what they would
add is the dozen lines of `_Output`.

Everything is opened through the tree, by the rules for any request: nothing outside of the directory, and nothing
hidden, unless hidden files are served. A link to a file is followed; one to a directory is not, since links can make a
circle. Entries that only the listing has (such links, files that may not be read, FIFOs, names with a backslash, which
some programs read as a separator) are named in the comment of the archive, which `unzip -z` shows.

An archive is never wrong. When a file changes after part of it was sent, the response is broken off, so that no client
takes what it has for the whole.
"""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import time
import zipfile
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from itertools import islice
from stat import S_IMODE
from urllib.parse import quote

from ...http.messages import Request, Response
from ...threads.slices import IncrementalBody
from .directories import open_to_read
from .paths import Opened, Segments, Tree, is_hidden_name

__all__ = ["respond_with_archive", "wants_archive"]

# What is read and compressed at once: so many bytes of one file, or so many files that are smaller.
_PIECE = 64 * 1024
_MAX_FILES = 16
_MAX_NAMES = 1024  # of a directory, read at once
_MAX_COMMENT = 0xFFFF  # bytes, by the format

# Errors for which a file is left out: it may not be read, or there is none, at the end of a link or any more.
_REASONS_TO_SKIP = frozenset((errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))


def wants_archive(request: Request) -> bool:
    """Whether the query asks for an archive: `?zip`."""
    return any(argument.partition("=")[0] == "zip" for argument in request.query_string.split("&"))


def respond_with_archive(tree: Tree, segments: Segments, executor: Executor, *, show_hidden: bool = False) -> Response:
    """Returns a directory as an archive, whose names are relative to the directory.

    Args:
        tree: where the directory is.
        segments: of the directory, below `tree`.
        executor: has the threads that read and compress.
        show_hidden: whether hidden files are part of it.

    Raises:
        OSError: as `Tree.open`; PermissionError if the directory may not be read.
    """
    work = _Archive(tree, segments, show_hidden).make()
    begun = next(work)  # opens the directory itself, while there can still be another response
    headers = [
        ("Content-Type", "application/zip"),
        ("Content-Disposition", _attachment((segments[-1] if segments else b"files") + b".zip")),
    ]
    return Response(200, IncrementalBody(executor, work, begun), headers)


class _Output:
    """The file that `zipfile` writes to; collects what was written since the last piece was sent."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(data)
        return len(data)

    def flush(self) -> None:
        """Does nothing: there is no buffer below this one."""

    def close(self) -> None:
        """Does nothing: there is no file."""

    def take(self) -> bytes:
        """Returns what was written since the last call."""
        piece = b"".join(self._written)
        self._written.clear()
        return piece


# What is still to come: a path below the top directory, and whether it is a link.
_Pending = tuple[Segments, bool]


class _Archive:
    """An archive that is being made of the directory at `top`."""

    def __init__(self, tree: Tree, top: Segments, show_hidden: bool) -> None:
        self._tree = tree
        self._top = top
        self._show_hidden = show_hidden
        self._output = _Output()
        self._zip = zipfile.ZipFile(self._output, "w", zipfile.ZIP_DEFLATED)
        self._left_out: list[str] = []
        self._pending: list[_Pending] = []  # the next one last

    def make(self) -> Generator[bytes, None, None]:
        """Makes the archive in pieces, of which some are empty. Raises OSError if it cannot be completed."""
        try:
            yield from self._enter((), self._tree.open(self._top))
            yield from self._walk()
        except BaseException:
            self._zip.filelist.clear()  # or its destructor would still write the table of contents
            raise
        self._zip.comment = self._comment()
        self._zip.close()  # writes the table of contents, in a few microseconds for each entry
        yield self._output.take()

    def _walk(self) -> Generator[bytes, None, None]:
        """Adds everything that is still to come."""
        files = 0
        while self._pending:
            segments, is_link = self._pending.pop()
            try:
                opened = self._tree.open(self._top + segments)
            except OSError as error:
                self._skip(segments, error)
                continue
            if opened.is_directory and is_link:
                os.close(opened.fd)
                self._leave_out(segments, "a link to a directory")
            elif opened.is_directory:
                yield from self._add_directory(segments, opened)
            else:
                yield from self._add_file(segments, opened)
            files += 1
            if files % _MAX_FILES == 0:
                yield self._output.take()

    def _add_directory(self, segments: Segments, opened: Opened) -> Generator[bytes, None, None]:
        """Adds an entry for a directory, so that it is there also if it is empty; what is in it comes next."""
        try:
            yield from self._enter(segments, opened)
        except OSError as error:
            self._skip(segments, error)
            return
        self._zip.writestr(_describe(_label(segments) + "/", opened.status), b"")

    def _enter(self, segments: Segments, opened: Opened) -> Generator[bytes, None, None]:
        """Puts what is in a directory before everything else that is still to come."""
        try:
            fd = open_to_read(opened.fd)
        finally:
            os.close(opened.fd)
        try:
            with os.scandir(fd) as found:
                while run := list(islice(found, _MAX_NAMES)):
                    self._pending += self._choose(segments, run)
                    yield b""
        finally:
            os.close(fd)

    def _choose(self, directory: Segments, run: list[os.DirEntry[str]]) -> Iterator[_Pending]:
        """Chooses those entries of a directory that go into the archive."""
        for found in run:
            name = os.fsencode(found.name)
            if b"\\" in name:
                self._leave_out((*directory, name), "a backslash in the name")
            elif self._show_hidden or not is_hidden_name(name):
                yield (*directory, name), found.is_symlink()

    def _add_file(self, segments: Segments, opened: Opened) -> Generator[bytes, None, None]:
        """Adds one version of a file. Raises OSError if it changes meanwhile."""
        fd, status, _ = opened
        try:
            info = _describe(_label(segments), status)
            if info.filename in self._zip.NameToInfo:
                self._leave_out(segments, "its name is the same as another one in this format")
                return
            size = 0
            with self._zip.open(info, "w") as entry:
                while data := os.read(fd, _PIECE):
                    size += len(data)
                    if size > status.st_size:
                        break
                    entry.write(data)
                    if len(data) == _PIECE:
                        yield self._output.take()
            after = os.fstat(fd)
            if size != status.st_size or after.st_mtime_ns != status.st_mtime_ns:
                raise OSError(errno.EBUSY, f"{info.filename!r} changed while it was put into an archive")
        finally:
            os.close(fd)

    def _skip(self, segments: Segments, error: OSError) -> None:
        """Leaves out what is unavailable; raises any other error, which may come for everything that follows."""
        if error.errno not in _REASONS_TO_SKIP:
            raise error
        self._leave_out(segments, error.strerror)

    def _leave_out(self, segments: Segments, reason: str | None) -> None:
        self._left_out.append(f"{json.dumps(_label(segments), ensure_ascii=False)}: {reason}\n")

    def _comment(self) -> bytes:
        if not self._left_out:
            return b""
        comment = f"Left out ({len(self._left_out)}):\n{''.join(self._left_out)}".encode()
        return comment[:_MAX_COMMENT].decode(errors="ignore").encode()


def _label(segments: Segments) -> str:
    """The name of an entry. ZIP has Unicode only, so a byte that is not UTF-8 becomes `%FF`, as in its URL."""
    return _ESCAPED.sub(
        lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", b"/".join(segments).decode(errors="surrogateescape")
    )


_ESCAPED = re.compile("[\udc80-\udcff]")


def _describe(label: str, status: os.stat_result) -> zipfile.ZipInfo:
    """An entry with the date and the permissions of a file; its size decides whether it needs ZIP64."""
    seconds = int(max(-(1 << 31), min(status.st_mtime, (1 << 31) - 1)))
    # The format itself has the local time, of 1980 or later; a field that all programs know has seconds since the
    # epoch.
    info = zipfile.ZipInfo(label, max((1980, 1, 1, 0, 0, 0), time.localtime(seconds)[:6]))
    info.extra = struct.pack("<HHBl", 0x5455, 5, 1, seconds)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (status.st_mode & ~0o7777 | S_IMODE(status.st_mode) & 0o777) << 16  # no set-user-ID
    info.file_size = status.st_size
    return info


def _attachment(name: bytes) -> str:
    """The value of Content-Disposition that makes a browser save a file as `name` (RFC 6266 §4.3, RFC 8187 §3.2)."""
    text = name.decode(errors="replace")
    plain = re.sub(r"[^A-Za-z0-9 !#$&'()+,.;=@^_`{}~-]", "_", text)  # for clients that do not know `filename*`
    extended = "" if plain == text else f"; filename*=UTF-8''{quote(text, safe='')}"
    return f'attachment; filename="{plain}"{extended}'
