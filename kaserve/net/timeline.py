"""Timeline: what happened on a few connections lately, for somebody who looks.

While nobody looks nothing is recorded. While somebody does, the first connections that come are followed, and no more
of them than fit on a page; their requests are merged where they are too close to be told apart. So what it costs does
not depend on how busy the server is. Knows no connection; times are those of the reactor.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Span", "Timeline", "Track"]

_MOST_TRACKS = 24
_MOST_SPANS = 240
_WINDOW = 30.0  # seconds that are shown
_RESOLUTION = 0.05  # seconds, below which two requests are one block on any screen
_LOOK = 5.0  # seconds for which one look keeps it recording


class Span:
    """Requests that followed each other at once. status: the worst one."""

    __slots__ = ("count", "end", "start", "status")

    def __init__(self, start: float, end: float, status: int) -> None:
        self.start = start
        self.end = end
        self.count = 1
        self.status = status


class Track:
    """One connection. ended: when, or None; why: see `Stats.closed`."""

    __slots__ = ("client", "ended", "number", "opened", "requests", "spans", "why")

    def __init__(self, number: int, client: str, opened: float) -> None:
        self.number = number
        self.client = client
        self.opened = opened
        self.ended: float | None = None
        self.why = ""
        self.requests = 0
        self.spans: deque[Span] = deque(maxlen=_MOST_SPANS)

    def add(self, start: float, end: float, status: int) -> None:
        """A request that came at `start` and was answered by `end`."""
        self.requests += 1
        spans = self.spans
        if spans and start - spans[-1].end < _RESOLUTION:
            last = spans[-1]
            last.end = max(last.end, end)
            last.count += 1
            last.status = max(last.status, status)
        else:
            spans.append(Span(start, end, status))

    def end(self, now: float, why: str) -> None:
        self.ended = now
        self.why = why


class Timeline:
    """The tracks that are followed. recording: `follow` may be worth calling; it is the one thing to look at for each
    request."""

    __slots__ = ("_tracks", "_until", "recording")

    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._until = -_LOOK
        self.recording = False

    def follow(self, number: int, client: str, opened: float, now: float) -> Track | None:
        """A track for a connection that is about to serve its next request; None when nobody looks, or there are
        enough.

        number: of the connection. opened: when it was.
        """
        if now > self._until or len(self._tracks) >= _MOST_TRACKS:
            self.recording = False
            return None
        track = Track(number, client, opened)
        self._tracks.append(track)
        return track

    def look(self, now: float) -> list[dict[str, object]]:
        """What is to be seen, oldest connection first, as JSON has it: all times are seconds before `now`. Whoever
        wants more has to look again within a few seconds."""
        if now > self._until:  # nobody has for a while, and what is there has holes
            self._tracks.clear()
        self._until = now + _LOOK
        start = now - _WINDOW
        self._tracks = [track for track in self._tracks if track.ended is None or track.ended > start]
        self.recording = len(self._tracks) < _MOST_TRACKS
        return [_shown(track, now) for track in self._tracks]


def _shown(track: Track, now: float) -> dict[str, object]:
    return {
        "number": track.number,
        "client": track.client,
        "requests": track.requests,
        "opened": round(now - track.opened, 3),
        "ended": None if track.ended is None else round(now - track.ended, 3),
        "why": track.why,
        "spans": [
            [round(now - span.start, 3), round(now - span.end, 3), span.count, span.status]
            for span in track.spans
            if span.end > now - _WINDOW
        ],
    }
