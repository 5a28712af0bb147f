"""Timeline: what happened on a few connections lately, for somebody who looks.

While nobody looks nothing is recorded. While somebody does, connections that come are followed, and no more of them
than fit on a page. When there are more, each look gives a few of them the places of those that ended or fell silent;
their requests are merged where they are too close to be told apart. So what it costs does not depend on how busy the
server is. Knows no connection; times are those of the reactor.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Burst", "ConnectionTrace", "Timeline"]

_MAX_TRACKS = 24
_MAX_NEW = 6  # that a look makes room for
_MAX_SPANS = 240
_WINDOW = 30.0  # seconds that are shown
_RESOLUTION = 0.05  # seconds, below which two requests are one block on any screen
_LOOK = 5.0  # seconds for which one look keeps it recording


class Burst:
    """Requests that followed each other at once. pipelined: those of them that had come before the answer in front of
    theirs was finished. status: the worst one."""

    __slots__ = ("count", "end", "pipelined", "start", "status")

    def __init__(self, start: float, end: float, status: int) -> None:
        self.start = start
        self.end = end
        self.count = 1
        self.pipelined = 0
        self.status = status


class ConnectionTrace:
    """One connection. ended: when, or None; why: see `Stats.closed`. is_shown: it has a place on the page; without one
    nothing is recorded."""

    __slots__ = ("_timeline", "client", "ended", "is_shown", "number", "opened", "requests", "spans", "why")

    def __init__(self, timeline: Timeline, number: int, client: str, opened: float) -> None:
        self._timeline = timeline
        self.number = number
        self.client = client
        self.opened = opened
        self.ended: float | None = None
        self.why = ""
        self.is_shown = False
        self.requests = 0
        self.spans: deque[Burst] = deque(maxlen=_MAX_SPANS)

    def add(self, start: float, end: float, status: int) -> None:
        """A request that came at `start`, at the end of the answer before it if it was there already, and was answered
        by `end`."""
        self.requests += 1
        if not self.is_shown and not self._timeline.admit(self, end):
            return
        spans = self.spans
        if spans and start - spans[-1].end < _RESOLUTION:
            last = spans[-1]
            last.pipelined += start == last.end
            last.end = max(last.end, end)
            last.count += 1
            last.status = max(last.status, status)
        else:
            spans.append(Burst(start, end, status))

    def end(self, now: float, why: str) -> None:
        self.ended = now
        self.why = why

    def last_seen(self) -> float:
        """When something was to be seen of it for the last time."""
        return self.spans[-1].end if self.spans else self.opened

    def hide(self) -> None:
        """It loses its place, and what was recorded: what comes now may not follow that without a gap."""
        self.is_shown = False
        self.spans.clear()


class Timeline:
    """The tracks that are followed. recording: `follow` may be worth calling; it is the one thing to look at for each
    request."""

    __slots__ = ("_tracks", "_until", "recording")

    def __init__(self) -> None:
        self._tracks: list[ConnectionTrace] = []
        self._until = -_LOOK
        self.recording = False

    def follow(self, number: int, client: str, opened: float, now: float) -> ConnectionTrace | None:
        """A track for a connection that is about to serve its next request; None when nobody looks, or there are
        enough.

        number: of the connection. opened: when it was.
        """
        track = ConnectionTrace(self, number, client, opened)
        return track if self.admit(track, now) else None

    def admit(self, track: ConnectionTrace, now: float) -> bool:
        """Gives `track` a place, if somebody looks and there is one."""
        if not self.recording or now > self._until or len(self._tracks) >= _MAX_TRACKS:
            self.recording = False
            return False
        self._tracks.append(track)
        track.is_shown = True
        return True

    def look(self, now: float) -> list[dict[str, object]]:
        """What is to be seen, in the order in which it came, as JSON has it: all times are seconds before `now`.
        Whoever wants more has to look again within a few seconds."""
        start = now - _WINDOW
        if now > self._until:  # nobody has for a while, and what is there has holes
            self._keep([])
        elif not self.recording:  # there were more
            self._make_room(start)
        self._keep([track for track in self._tracks if track.ended is None or track.ended > start])
        self._until = now + _LOOK
        self.recording = True
        return [_shown(track, now) for track in self._tracks]

    def _make_room(self, start: float) -> None:
        """For a few others. Who has been idle for all the time since `start` goes first, then who ended first."""
        silent = [track for track in self._tracks if track.ended is None and track.last_seen() <= start]
        ended = [track for track in self._tracks if track.ended is not None]
        going = sorted(silent, key=ConnectionTrace.last_seen) + sorted(ended, key=_end)
        going = going[: max(0, len(self._tracks) + _MAX_NEW - _MAX_TRACKS)]
        self._keep([track for track in self._tracks if track not in going])

    def _keep(self, kept: list[ConnectionTrace]) -> None:
        for track in self._tracks:
            if track not in kept:
                track.hide()
        self._tracks = kept


def _end(track: ConnectionTrace) -> float:
    assert track.ended is not None
    return track.ended


def _shown(track: ConnectionTrace, now: float) -> dict[str, object]:
    return {
        "number": track.number,
        "client": track.client,
        "requests": track.requests,
        "opened": round(now - track.opened, 3),
        "ended": None if track.ended is None else round(now - track.ended, 3),
        "why": track.why,
        "spans": [
            [round(now - span.start, 3), round(now - span.end, 3), span.count, span.status, span.pipelined]
            for span in track.spans
            if span.end > now - _WINDOW
        ],
    }
