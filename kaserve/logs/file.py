"""A file that the access log goes to, with a thread of its own, so that the server does not wait for it.

Does not know what a line says.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque

__all__ = ["LogFile"]

log = logging.getLogger("kaserve")

_MAX_WAITING = 8 << 20  # bytes; a disk that does not keep up with more costs lines
_TOGETHER = 0.1  # seconds in which lines are collected, so that the thread wakes up ten times a second and no more
_PATIENCE = 2.0  # seconds in the end for a disk that is slow
_COMPLAIN_EVERY = 60.0  # seconds at least


class LogFile:
    """A file that lines are appended to. `write` takes no longer than putting them into a queue: what the disk does not
    take in time is lost rather than requests, is counted, and said in the error log.

    `reopen`, when the file was renamed, goes on in a new one of the old name.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError when the file cannot be opened."""
        self.path = os.path.abspath(path)  # also after somebody has changed the directory
        self._fd = _open(self.path)
        self._waiting: deque[bytes] = deque()
        # Each of these is counted by one side alone, which is why they need no lock.
        self._given = self._taken = 0  # bytes
        self._refused = self._unwritten = 0  # lines
        self._work = threading.Event()
        self._leaving = threading.Event()
        self._is_stale = False
        self._is_torn = False  # the file ends in the middle of a line
        self._why = ""  # lines were not written, and nobody was told yet
        self._complained = 0  # lines
        self._next_complaint = 0.0
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> int:
        """Lines."""
        return self._refused + self._unwritten

    # In the server's thread.

    def write(self, lines: bytes) -> None:
        if self._given - self._taken + len(lines) > _MAX_WAITING or self._leaving.is_set():
            self._refused += lines.count(b"\n")
            return
        self._given += len(lines)
        self._waiting.append(lines)
        self._wake()

    def reopen(self) -> None:
        """What was written before this goes into the old file, or into the new one."""
        self._is_stale = True
        self._wake()

    def close(self) -> None:
        """Writes what waits, but does not wait for ever."""
        if self._leaving.is_set():
            return
        self._leaving.set()
        self._work.set()
        if self._thread is None:
            os.close(self._fd)
        else:
            self._thread.join(_PATIENCE)

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kaserve-log", daemon=True)
            self._thread.start()
        if not self._work.is_set():
            self._work.set()

    # In the thread.

    def _run(self) -> None:
        while not self._leaving.is_set():
            self._work.wait()
            self._leaving.wait(_TOGETHER)
            self._work.clear()
            self._turn()
        self._next_complaint = 0.0
        self._turn()
        os.close(self._fd)

    def _turn(self) -> None:
        if self._is_stale:
            self._is_stale = False
            self._open_anew()
        data = b"".join([self._waiting.popleft() for _ in range(len(self._waiting))])
        if data:
            self._why = self._append(data) or self._why
        self._taken += len(data)
        self._report_lost_lines()

    def _open_anew(self) -> None:
        try:
            fd = _open(self.path)
        except OSError as error:
            log.error("the access log goes on in the old file: %s: %s", self.path, error.strerror)
        else:
            os.close(self._fd)
            self._fd = fd

    def _append(self, data: bytes) -> str:
        """All of it, or as much as there is room for; then it returns why."""
        if self._is_torn:
            data = b"\n" + data
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            written = len(data) - len(rest)
            self._is_torn = data[written - 1 : written] != b"\n" if written else self._is_torn
            self._unwritten += bytes(rest).count(b"\n")
            return error.strerror or str(error)
        self._is_torn = False
        return ""

    def _report_lost_lines(self) -> None:
        """Says what was lost, if anything was, and it was not said a moment ago."""
        lost = self.lost - self._complained
        if lost and time.monotonic() >= self._next_complaint:
            why, self._why = self._why or "it is not written fast enough", ""
            self._complained += lost
            self._next_complaint = time.monotonic() + _COMPLAIN_EVERY
            what = "1 line of the access log was" if lost == 1 else f"{lost} lines of the access log were"
            log.error("%s lost: %s: %s", what, self.path, why)


def _open(path: str) -> int:
    """A FIFO that nobody reads is refused, rather than waited for."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0), 0o640)
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(fd, True)  # the thread may wait
    return fd
