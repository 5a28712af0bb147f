"""Timeline: the requests of a few connections during the last seconds, for the live page.

Nothing is recorded until the page is opened. While it is open, requests are recorded for as many connections as
fit on the page. On a server with more connections than that, a few others get a row after each rendering: the rows of
connections that have ended or have been idle for the whole window. A row stays on the page until another connection
takes it, so that a busy server has all rows filled. Requests that follow each other so closely that no screen could
show the difference are merged into one block. So the cost does not depend on how busy the server is.

Knows no connections. All times are those of the reactor, in seconds.
"""

from __future__ import annotations

import math
from collections import deque

from .endings import Ending

__all__ = ["Burst", "ConnectionTrace", "Timeline"]

_MAX_TRACES = 24
_MAX_NEW_TRACES = 6  # rows that change hands between two renderings; with more, nobody could read a row
_MAX_ATTEMPTS = 200  # to get a row, between two renderings, of connections that have none
_MAX_BURSTS = 240  # in one trace
_WINDOW = 30.0  # seconds that the page shows
_RESOLUTION = 0.05  # seconds; two requests closer than this are one block: on any screen they would touch
_RECORDING_TIME = 5.0  # seconds for which one rendering keeps the recording on; the page renders once a second


class Burst:
    """One request, or several that followed each other within `_RESOLUTION`: a block on the page.

    Attributes:
        start: when the first byte of the first request arrived.
        end: when the last response was complete.
        count: requests.
        pipelined: requests among them that had arrived before the previous response was complete.
        status: the highest status.
    """

    __slots__ = ("count", "end", "pipelined", "start", "status")

    def __init__(self, start: float, end: float, status: int) -> None:
        self.start = start
        self.end = end
        self.count = 1
        self.pipelined = 0
        self.status = status


class ConnectionTrace:
    """What one connection has done: a row on the page.

    Attributes:
        number: the connection's number.
        client: its address, without a port.
        opened: when it was accepted.
        ended: when it ended, or None.
        ending: why it ended, or None.
        is_shown: whether it has a row. Without one only `requests` is counted.
        requests: requests since the trace was created.
        bursts: the requests, the oldest first.
    """

    __slots__ = ("_timeline", "bursts", "client", "ended", "ending", "is_shown", "number", "opened", "requests")

    def __init__(self, timeline: Timeline, number: int, client: str, opened: float) -> None:
        self._timeline = timeline
        self.number = number
        self.client = client
        self.opened = opened
        self.ended: float | None = None
        self.ending: Ending | None = None
        self.is_shown = False
        self.requests = 0
        self.bursts: deque[Burst] = deque(maxlen=_MAX_BURSTS)

    def add(self, start: float, end: float, status: int) -> None:
        """Records a request and its response.

        Args:
            start: when the first byte of the request arrived. A pipelined request, which was there before the previous
                response was complete, starts exactly at the end of that response; this is how it is recognised.
            end: when the response was complete.
            status: of the response.
        """
        self.requests += 1
        if not self.is_shown and not self._timeline.try_add(self, end):
            return
        bursts = self.bursts
        if bursts and start - bursts[-1].end < _RESOLUTION:
            last = bursts[-1]
            last.pipelined += start == last.end
            last.end = max(last.end, end)
            last.count += 1
            last.status = max(last.status, status)
        else:
            bursts.append(Burst(start, end, status))

    def end(self, now: float, ending: Ending) -> None:
        """Records that the connection has ended."""
        self.ended = now
        self.ending = ending

    def last_activity(self) -> float:
        """Returns the end of the last response recorded, or when the connection was accepted."""
        return self.bursts[-1].end if self.bursts else self.opened

    def hide(self) -> None:
        """Removes the row and the recorded requests: requests that are recorded later would follow them with a gap,
        and that gap would look like idle time."""
        self.is_shown = False
        self.bursts.clear()


class Timeline:
    """The traces of a few connections.

    Attributes:
        recording: whether `start_trace` could succeed. A connection checks this one attribute for each request, so that
            the timeline costs nothing while it is off or full.
    """

    __slots__ = ("_attempts", "_leaving", "_traces", "_unseen", "_until", "recording")

    def __init__(self) -> None:
        self._traces: list[ConnectionTrace] = []
        self._leaving: list[ConnectionTrace] = []  # whose rows others may take; the first to go is the last here
        self._unseen: list[ConnectionTrace] = []  # traces since the last rendering: nobody misses one that has ended
        self._attempts = 0  # left until the next rendering
        self._until = -_RECORDING_TIME  # recording ends here, unless the page is rendered before
        self.recording = False

    def start_trace(self, number: int, client: str, opened: float, now: float) -> ConnectionTrace | None:
        """Starts a trace for a connection that is about to serve its next request.

        Args:
            number: the connection's number.
            client: its address, without a port.
            opened: when it was accepted.
            now: the present time.

        Returns:
            The trace, or None if the page is not open or has no free row.
        """
        trace = ConnectionTrace(self, number, client, opened)
        return trace if self.try_add(trace, now) else None

    def try_add(self, trace: ConnectionTrace, now: float) -> bool:
        """Gives `trace` a row if the page is open and has one. Returns whether it did."""
        if not self.recording or now > self._until or not self._make_room(now):
            self.recording = False  # until the next rendering; see `recording`
            return False
        if len(self._traces) >= _MAX_TRACES:
            return False
        self._traces.append(trace)
        self._unseen.append(trace)
        trace.is_shown = True
        return True

    def _make_room(self, now: float) -> bool:
        """Takes a row from a connection that can do without, if all are in use.

        The first to go are those that `render` has chosen. After them go connections that began and ended since then,
        which no page has shown yet. Otherwise short connections, which are the first to come on a busy server, would
        take all rows from the open ones that come a little later.

        Returns:
            False if no row can become free before the next rendering.
        """
        if len(self._traces) < _MAX_TRACES:
            return True
        self._attempts -= 1
        if self._attempts < 0:
            return False
        while self._leaving:
            trace = self._leaving.pop()
            if trace.is_shown and (trace.ended is not None or trace.last_activity() <= now - _WINDOW):
                self.forget(trace)
                return True
        ended = [trace for trace in self._unseen if trace.ended is not None]
        if ended:
            self.forget(min(ended, key=_ended_at))
        return True

    def forget(self, trace: ConnectionTrace) -> None:
        """Takes the row of `trace`, if it has one."""
        self._unseen = [each for each in self._unseen if each is not trace]
        self._keep([each for each in self._traces if each is not trace])

    def render(self, now: float) -> list[dict[str, object]]:
        """Returns the traces as data for JSON, and keeps the recording on for a few seconds.

        Returns:
            The traces: those of open connections by their numbers, then those that have ended, the latest first. All
            times are seconds before `now`.
        """
        start = now - _WINDOW
        if now > self._until:  # the page was not open for a while, so the traces have gaps
            self._keep([])
        self._keep([trace for trace in self._traces if trace.ended is None or trace.ended > start])
        self._leaving = self._find_leaving(start)
        self._unseen = []
        self._attempts = _MAX_ATTEMPTS
        self._until = now + _RECORDING_TIME
        self.recording = True
        return [_as_json(trace, now) for trace in sorted(self._traces, key=_order)]

    def _find_leaving(self, start: float) -> list[ConnectionTrace]:
        """Returns the traces whose rows may go to other connections: first those of connections that have been idle
        since `start`, then those of connections that have ended, the earliest first; in the reverse order, and no more
        than `_MAX_NEW_TRACES` rows including those that are free."""
        idle = [trace for trace in self._traces if trace.ended is None and trace.last_activity() <= start]
        ended = [trace for trace in self._traces if trace.ended is not None]
        leaving = sorted(idle, key=ConnectionTrace.last_activity) + sorted(ended, key=_ended_at)
        return leaving[: max(0, len(self._traces) + _MAX_NEW_TRACES - _MAX_TRACES)][::-1]

    def _keep(self, kept: list[ConnectionTrace]) -> None:
        """Takes the rows of all traces but `kept`."""
        for trace in self._traces:
            if trace not in kept:
                trace.hide()
        self._traces = kept


def _order(trace: ConnectionTrace) -> tuple[float, int]:
    """The sorting key of rows. A row of an open connection moves only when a connection above it ends."""
    return (-math.inf if trace.ended is None else -trace.ended, trace.number)


def _ended_at(trace: ConnectionTrace) -> float:
    """The sorting key of traces that have ended."""
    assert trace.ended is not None
    return trace.ended


def _as_json(trace: ConnectionTrace, now: float) -> dict[str, object]:
    """The trace as the page reads it, with milliseconds as the resolution."""
    return {
        "number": trace.number,
        "client": trace.client,
        "requests": trace.requests,
        "opened": round(now - trace.opened, 3),
        "ended": None if trace.ended is None else round(now - trace.ended, 3),
        "ending": trace.ending,
        "bursts": [
            [round(now - burst.start, 3), round(now - burst.end, 3), burst.count, burst.status, burst.pipelined]
            for burst in trace.bursts
            if burst.end > now - _WINDOW
        ],
    }
