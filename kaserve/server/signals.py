"""SignalHandlers: what SIGTERM, SIGINT and SIGHUP do to a server that is the main program.

Knows signals and the handlers that were there before. Does not know how a server stops.

| signal  | from                           | effect                                                            |
|---------|--------------------------------|-------------------------------------------------------------------|
| SIGTERM | a service manager, `kill`      | graceful shutdown, with the drain delay and the graceful timeout  |
| SIGINT  | Ctrl-C, first time             | graceful shutdown without delay, within a few seconds             |
|         | Ctrl-C, second time            | abort: open connections are reset                                 |
|         | Ctrl-C, third time             | the system ends the process, even if a handler does not return    |
| SIGHUP  | logrotate, certificate renewal | log files are reopened and certificates are read again            |

Python calls a handler between two instructions of the main thread, whatever that is doing. So handlers only ask: the
reactor does the work when it has finished its turn. If it is waiting, or about to wait, the signal itself has to wake
it, by way of `signal.set_wakeup_fd`; otherwise the handler would not be called before the next client arrives.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["SignalHandlers"]


class SignalHandlers:
    """Handles signals while its `with` block runs, and restores the previous handlers after it.

    Attributes:
        are_installed: whether signals are handled. Python lets only the main thread do so; in another thread the block
            changes nothing.
    """

    def __init__(
        self,
        *,
        terminate: Callable[[], object],
        interrupt: Callable[[], object],
        abort: Callable[[], object],
        reload: Callable[[], object],
        wakeup_fd: int,
    ) -> None:
        """Names what is called; each function must be safe to call from a signal handler.

        Args:
            terminate: at SIGTERM.
            interrupt: at the first SIGINT.
            abort: at the second SIGINT.
            reload: at SIGHUP.
            wakeup_fd: a non-blocking descriptor, to which the number of each signal is written.
        """
        self._terminate = terminate
        self._interrupt = interrupt
        self._abort = abort
        self._reload = reload
        self._wakeup_fd = wakeup_fd
        self._previous_wakeup_fd = -1
        self._process = os.getpid()
        self._interrupts = 0
        self._previous: dict[int, Any] = {}
        self.are_installed = False

    def __enter__(self) -> SignalHandlers:
        if threading.current_thread() is threading.main_thread():
            self.are_installed = True
            self._previous_wakeup_fd = signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
            self._install("SIGTERM", self._on_sigterm)
            self._install("SIGINT", self._on_sigint)
            self._install("SIGHUP", self._on_sighup)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.are_installed:
            signal.set_wakeup_fd(self._previous_wakeup_fd)

    def _install(self, name: str, handler: Callable[[int, FrameType | None], object]) -> None:
        number = getattr(signal, name, None)
        if number is not None:  # Windows has no SIGHUP
            self._previous[number] = signal.signal(number, handler)

    # A child process that a request handler forked inherits the signal handlers. A signal to the child must end the
    # child, and must not stop the server, whose sockets it shares.

    @property
    def _is_child(self) -> bool:
        return os.getpid() != self._process

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self._is_child:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            self._terminate()

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        if self._is_child:
            signal.default_int_handler(number, frame)
        self._interrupts += 1
        if self._interrupts == 1:
            self._interrupt()
        else:
            self._abort()
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # for the third time

    def _on_sighup(self, number: int, frame: FrameType | None) -> None:
        if not self._is_child:
            self._reload()
