"""LogFile: a file for the access log, written by a thread of its own so that the server never waits for a disk.

Does not know what a line says.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque

__all__ = ["LogFile", "why_unwritable"]

log = logging.getLogger("kaserve")

_MAX_QUEUED = 8 << 20  # bytes; a disk that is slower than that for long loses lines
_BATCH_TIME = 0.1  # seconds in which lines are collected, so that the thread wakes up at most ten times a second
_CLOSE_TIMEOUT = 2.0  # seconds to wait for a slow disk when the server closes
_REPORT_INTERVAL = 60.0  # seconds between two reports of lost lines


def why_unwritable(path: str, error: OSError) -> str:
    """Returns why the file of a log cannot be opened, for a message.

    The system says "No such file or directory" where the directory is what is missing.
    """
    directory = os.path.dirname(path)
    if directory and not os.path.isdir(directory):
        return f"there is no directory {directory!r}; make it first"
    return error.strerror or str(error)


class LogFile:
    """A file that lines are appended to, without waiting.

    `write` only puts the lines into a queue. If the disk is too slow or full, lines are lost rather than requests; they
    are counted, and reported in the error log.

    Args:
        path: the file, which is created if it does not exist.

    Attributes:
        path: the absolute path.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)  # `reopen` must find it after the program has changed its directory
        self._fd = _open(self.path)
        self._queue: deque[bytes] = deque()
        # Each of these counters is written by one of the two threads alone, which is why they need no lock.
        self._bytes_queued = self._bytes_done = 0
        self._lines_rejected = self._lines_failed = 0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._reopen_requested = False
        self._ends_mid_line = False  # the last write was cut off in the middle of a line
        self._last_error = ""  # why lines were lost, until that is reported
        self._lines_reported = 0
        self._next_report = 0.0
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> int:
        """Number of lines that were not written."""
        return self._lines_rejected + self._lines_failed

    # In the server's thread.

    def write(self, lines: bytes) -> None:
        """Queues whole lines for writing; drops them if too much is queued, or after `close`."""
        if self._bytes_queued - self._bytes_done + len(lines) > _MAX_QUEUED or self._closing.is_set():
            self._lines_rejected += lines.count(b"\n")
            return
        self._bytes_queued += len(lines)
        self._queue.append(lines)
        self._wake_thread()

    def reopen(self) -> None:
        """Continues in a new file of the same name, for when this one was renamed. Lines that are still queued go to
        either of the two."""
        self._reopen_requested = True
        self._wake_thread()

    def close(self) -> None:
        """Writes what is queued, and closes the file; waits for a slow disk only for a while. May be called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        if self._thread is None:
            os.close(self._fd)
        else:
            self._thread.join(_CLOSE_TIMEOUT)

    def _wake_thread(self) -> None:
        # Started with the first line: a server that logs nothing needs no thread.
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kaserve-log", daemon=True)
            self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    # In the file's own thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(_BATCH_TIME)
            self._wake.clear()
            self._write_queue()
        self._next_report = 0.0  # report now or never
        self._write_queue()
        os.close(self._fd)

    def _write_queue(self) -> None:
        if self._reopen_requested:
            self._reopen_requested = False
            self._reopen_now()
        data = b"".join([self._queue.popleft() for _ in range(len(self._queue))])
        if data:
            self._last_error = self._append(data) or self._last_error
        self._bytes_done += len(data)
        self._report_lost_lines()

    def _reopen_now(self) -> None:
        try:
            fd = _open(self.path)
        except OSError as error:
            log.error("cannot reopen the access log, still writing to the old file: %s: %s", self.path, error.strerror)
        else:
            os.close(self._fd)
            self._fd = fd

    def _append(self, data: bytes) -> str:
        """Writes `data`, or as much of it as there is space for. Returns "" or the reason why not all was written."""
        if self._ends_mid_line:
            data = b"\n" + data  # so that the rest of a line does not swallow the next one
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            written = len(data) - len(rest)
            self._ends_mid_line = data[written - 1 : written] != b"\n" if written else self._ends_mid_line
            self._lines_failed += bytes(rest).count(b"\n")
            return error.strerror or str(error)
        self._ends_mid_line = False
        return ""

    def _report_lost_lines(self) -> None:
        """Logs how many lines were lost since the last report, at most once per interval."""
        lost = self.lost - self._lines_reported
        if lost and time.monotonic() >= self._next_report:
            reason, self._last_error = self._last_error or "writing is too slow", ""
            self._lines_reported += lost
            self._next_report = time.monotonic() + _REPORT_INTERVAL
            what = "1 line of the access log was" if lost == 1 else f"{lost} lines of the access log were"
            log.error("%s lost: %s: %s", what, self.path, reason)


def _open(path: str) -> int:
    """Opens `path` for appending. Raises OSError for a FIFO without a reader, rather than waiting for one."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0), 0o640)
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(fd, True)  # the thread may wait; only opening must not
    return fd
