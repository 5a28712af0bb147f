"""EventFeed: one event after the other, each made once for all its readers.

Knows bodies that are made while they are sent, and Futures of their pieces. Does not know what the events say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future

from ..http.file_span import FileSpan

__all__ = ["CallLater", "EventFeed"]

CallLater = Callable[[float, Callable[[], None]], object]
"""Calls a function after some seconds, in the reactor's thread."""


class EventFeed:
    """A stream of events for any number of readers. No event is made while there are none.

    Attributes:
        readers: streams that are being read.
    """

    def __init__(self, make_event: Callable[[], bytes], call_later: CallLater, seconds: float = 1.0) -> None:
        """Starts nothing yet.

        Args:
            make_event: returns the next event.
            call_later: calls a function after some seconds, in the reactor's thread, in which all of this runs.
            seconds: from one event to the next.
        """
        self._make_event = make_event
        self._call_later = call_later
        self._seconds = seconds
        self._waiting: list[Future[bytes | FileSpan]] = []
        self._timer_runs = False
        self._closed = False
        self.readers = 0

    def read(self, first: bytes) -> Iterator[bytes | FileSpan | Future[bytes | FileSpan]]:
        """Returns the events as a response body: `first` at once, then a Future of each further one."""
        self.readers += 1
        try:
            yield first
            while not self._closed:
                yield self._next_event()
        finally:
            self.readers -= 1

    def _next_event(self) -> Future[bytes | FileSpan]:
        """Returns a Future of the next event, and starts the timer if this is the first reader that waits for it."""
        future: Future[bytes | FileSpan] = Future()
        self._waiting.append(future)
        if not self._timer_runs:
            self._timer_runs = True
            self._call_later(self._seconds, self._time_is_up)
        return future

    def _time_is_up(self) -> None:
        self._timer_runs = False
        self._deliver()

    def _deliver(self) -> None:
        """Makes the next event for the readers that wait for it. A connection whose client has gone has cancelled its
        Future; if all have, no event is made and no timer started."""
        waiting, self._waiting = self._waiting, []
        listening = [future for future in waiting if future.set_running_or_notify_cancel()]
        if not listening:
            return
        try:
            event = b"" if self._closed else self._make_event()
        except Exception as error:  # each reader's connection logs it, and ends
            for future in listening:
                future.set_exception(error)
            return
        for future in listening:
            future.set_result(event)

    def close(self) -> None:
        """Ends the stream of every reader."""
        self._closed = True
        self._deliver()
