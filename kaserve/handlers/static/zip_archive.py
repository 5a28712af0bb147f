"""A directory as a zip archive, made while it is sent.

Knows the order of a walk and what to put into an archive. Does not know the format, which is the standard library's
`zipfile`: it writes to streams that cannot seek, with the size and checksum of an entry behind it, and goes over to
ZIP64 where 4 GiB or 65535 entries are not enough. The streaming libraries on PyPI are built on it as well; what they
would add is the dozen lines of `_Output`.

Everything is opened through the tree, by the rules for whatever is asked for: nothing outside of the directory, and
nothing hidden, unless hidden files are served. A link to a file is followed; one to a directory is not, since that
need not have an end. What is left out although the listing has it (such links, files that may not be read, FIFOs,
names with a backslash, which some take for a separator) is named in the comment of the archive, which `unzip -z` shows.

An archive is never wrong. What has been sent of a file cannot be taken back when the file changes meanwhile, so the
answer breaks off there, and no client takes what it has for the whole.
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
from .paths import Opened, Tree, is_hidden_name

__all__ = ["answer", "is_wanted"]

_PIECE = 64 * 1024  # read and compressed at one time
_MAX_FILES = 16  # of those smaller than that
_MAX_NAMES = 1024  # of a directory
_LONGEST_COMMENT = 0xFFFF  # bytes, by the format

# Why something need not be in an archive: nobody may read it, or there is nothing, at the end of a link or any more.
_EXCUSES = frozenset((errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))


def is_wanted(request: Request) -> bool:
    """Whether the query asks for an archive: `?zip`."""
    return any(argument.partition("=")[0] == "zip" for argument in request.query.split("&"))


def answer(tree: Tree, names: tuple[bytes, ...], executor: Executor, *, show_hidden: bool = False) -> Response:
    """The directory at `names` in `tree` as an archive, read and compressed on the threads of `executor`.

    Its names are relative to the directory. Raises OSError as `Tree.open` does, and PermissionError if the directory
    may not be read.
    """
    work = _Archive(tree, names, show_hidden).make()
    begun = next(work)  # opens the directory itself
    fields = [
        ("Content-Type", "application/zip"),
        ("Content-Disposition", _attachment((names[-1] if names else b"files") + b".zip")),
        ("Cache-Control", "no-cache"),
    ]
    return Response(200, IncrementalBody(executor, work, begun), fields)


class _Output:
    """What `zipfile` writes to, and where a piece of the archive is taken from."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        piece = b"".join(self._written)
        self._written.clear()
        return piece


_Ahead = tuple[tuple[bytes, ...], bool]  # what is still to come: names below the top, and whether a link stands there


class _Archive:
    """An archive that is being made of the directory at `top`."""

    def __init__(self, tree: Tree, top: tuple[bytes, ...], show_hidden: bool) -> None:
        self._tree = tree
        self._top = top
        self._show_hidden = show_hidden
        self._output = _Output()
        self._zip = zipfile.ZipFile(self._output, "w", zipfile.ZIP_DEFLATED)
        self._left_out: list[str] = []
        self._ahead: list[_Ahead] = []  # the next one last

    def make(self) -> Generator[bytes, None, None]:
        """The archive in pieces; some are empty. Raises OSError when it cannot be completed."""
        try:
            yield from self._enter((), self._tree.open(self._top))
            yield from self._walk()
        except BaseException:
            self._zip.filelist.clear()  # or it would still write the table of contents, for nobody
            raise
        self._zip.comment = self._comment()
        self._zip.close()  # writes the table of contents, some microseconds an entry
        yield self._output.take()

    def _walk(self) -> Generator[bytes, None, None]:
        files = 0
        while self._ahead:
            names, is_link = self._ahead.pop()
            try:
                opened = self._tree.open(self._top + names)
            except OSError as error:
                self._excuse(names, error)
                continue
            if opened.is_directory and is_link:
                os.close(opened.fd)
                self._leave_out(names, "a link to a directory")
            elif opened.is_directory:
                yield from self._add_directory(names, opened)
            else:
                yield from self._add_file(names, opened)
            files += 1
            if files % _MAX_FILES == 0:
                yield self._output.take()

    def _add_directory(self, names: tuple[bytes, ...], opened: Opened) -> Generator[bytes, None, None]:
        """An entry for the directory, so that it is there also if it is empty; what is in it comes next."""
        try:
            yield from self._enter(names, opened)
        except OSError as error:
            self._excuse(names, error)
            return
        self._zip.writestr(_describe(_label(names) + "/", opened.status), b"")

    def _enter(self, names: tuple[bytes, ...], opened: Opened) -> Generator[bytes, None, None]:
        """Puts what is in a directory in front of what is still to come."""
        try:
            fd = open_to_read(opened.fd)
        finally:
            os.close(opened.fd)
        try:
            with os.scandir(fd) as found:
                while run := list(islice(found, _MAX_NAMES)):
                    self._ahead += self._visit(names, run)
                    yield b""
        finally:
            os.close(fd)

    def _visit(self, directory: tuple[bytes, ...], run: list[os.DirEntry[str]]) -> Iterator[_Ahead]:
        """What of the entries found in a directory goes into the archive."""
        for found in run:
            name = os.fsencode(found.name)
            if b"\\" in name:
                self._leave_out((*directory, name), "a backslash in the name")
            elif self._show_hidden or not is_hidden_name(name):
                yield (*directory, name), found.is_symlink()

    def _add_file(self, names: tuple[bytes, ...], opened: Opened) -> Generator[bytes, None, None]:
        """One version of a file, or an OSError."""
        fd, status, _ = opened
        try:
            info = _describe(_label(names), status)
            if info.filename in self._zip.NameToInfo:
                self._leave_out(names, "its name cannot be told from another")
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

    def _excuse(self, names: tuple[bytes, ...], error: OSError) -> None:
        """Leaves out what is not to be had; raises whatever else went wrong, or it might go wrong for all the rest."""
        if error.errno not in _EXCUSES:
            raise error
        self._leave_out(names, error.strerror)

    def _leave_out(self, names: tuple[bytes, ...], reason: str | None) -> None:
        self._left_out.append(f"{json.dumps(_label(names), ensure_ascii=False)}: {reason}\n")

    def _comment(self) -> bytes:
        if not self._left_out:
            return b""
        comment = f"Left out ({len(self._left_out)}):\n{''.join(self._left_out)}".encode()
        return comment[:_LONGEST_COMMENT].decode(errors="ignore").encode()


def _label(names: tuple[bytes, ...]) -> str:
    """The name of an entry. ZIP has Unicode only: a byte that is not UTF-8 becomes `%FF`, as in its URL."""
    return _ESCAPED.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", b"/".join(names).decode(errors="surrogateescape"))


_ESCAPED = re.compile("[\udc80-\udcff]")


def _describe(label: str, status: os.stat_result) -> zipfile.ZipInfo:
    """An entry with the date and the permissions of the file; its size decides whether it needs ZIP64."""
    seconds = int(max(-(1 << 31), min(status.st_mtime, (1 << 31) - 1)))
    # The format has the local time, of 1980 or later, and in a field that all know by now seconds since the epoch.
    info = zipfile.ZipInfo(label, max((1980, 1, 1, 0, 0, 0), time.localtime(seconds)[:6]))
    info.extra = struct.pack("<HHBl", 0x5455, 5, 1, seconds)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (status.st_mode & ~0o7777 | S_IMODE(status.st_mode) & 0o777) << 16  # no set-user-ID
    info.file_size = status.st_size
    return info


def _attachment(name: bytes) -> str:
    """The value of Content-Disposition that has a file saved as `name` (RFC 6266 §4.3, RFC 8187 §3.2)."""
    text = name.decode(errors="replace")
    plain = re.sub(r"[^A-Za-z0-9 !#$&'()+,.;=@^_`{}~-]", "_", text)  # for clients that know no better
    extended = "" if plain == text else f"; filename*=UTF-8''{quote(text, safe='')}"
    return f'attachment; filename="{plain}"{extended}'
