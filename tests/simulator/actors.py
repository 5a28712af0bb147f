"""The actors: a client, and a connection at a server behind the proxy. Each moves one piece when it is its turn.

Know their plans and their end of a socket. Do not know what the others do, nor whether it is right (`checks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import h11

from tests.simulator.checks import Seen, Sent
from tests.simulator.plan import ClientPlan, Ending, Fate, ServerPlan
from tests.tools.net import Client

__all__ = ["BehindConnection", "Visitor"]

Note = Callable[[str], object]

_PIECES = (1, 2, 7, 100, 4_000, 60_000)


class Visitor:
    """A client with its requests.

    Attributes:
        plan: what it does.
        end: its end of the connection.
        is_gone: whether it has closed or reset it.
        has_finished: whether it has finished sending.
    """

    def __init__(self, number: int, plan: ClientPlan, end: Client, rng: Random, note: Note) -> None:
        self.name = f"client {number}"
        self.plan = plan
        self.end = end
        self.is_gone = self.has_finished = False
        self._rng = rng
        self._note = note
        self._unsent = b""
        self._asked = 0

    @property
    def has_asked_all(self) -> bool:
        return self._asked == len(self.plan.requests) and not self._unsent

    def move(self) -> None:
        """Does one thing: sends or reads a piece, or leaves."""
        if self.is_gone:
            return
        choice = self._rng.random()
        if choice < 0.5:
            self._send()
        elif choice < 0.97:
            self.read(self._rng.choice(_PIECES))
        elif self.plan.ending is Ending.RESETS:
            self._leave("resets", self.end.reset)
        elif self.plan.ending is Ending.CLOSES:
            self._leave("closes", self.end.close)

    def _leave(self, how: str, leave: Callable[[], object]) -> None:
        self._note(f"{self.name} {how}")
        self.is_gone = True
        leave()

    def _send(self) -> None:
        if self.has_finished or self.end.ended:
            return
        if not self._unsent:
            if self._asked == len(self.plan.requests):
                if self.plan.ending is Ending.HALF_CLOSES:
                    self._note(f"{self.name} finishes sending")
                    self.has_finished = True
                    with suppress(OSError):  # it has been reset meanwhile
                        self.end.finish()
                return
            if self._asked and not self.plan.pipelines and not self._has_response():
                return
            self._unsent = self.plan.requests[self._asked].wire
            self._asked += 1
        piece = self._unsent[: self._rng.choice(_PIECES)]
        count = self.end.send(piece)
        self._unsent = self._unsent[count:]
        self._note(f"{self.name} sends {count} bytes of request {self._asked}")

    def _has_response(self) -> bool:
        """Whether as many heads of final responses have come as were asked for."""
        heads = self.end.received.count(b"HTTP/1.1 ") - self.end.received.count(b"HTTP/1.1 1")
        return heads >= self._asked

    def read(self, most: int) -> bool:
        """Reads; whether anything has come."""
        if self.is_gone or self.end.ended:
            return False
        data = self.end.read(most)
        if data or self.end.ended:
            how = "a reset" if self.end.was_reset else "the end" if self.end.ended else ""
            self._note(f"{self.name} reads {len(data)} bytes {how}".rstrip())
        return bool(data)


class BehindConnection:
    """One connection at a server behind the proxy: reads requests with h11, and responds as planned.

    Attributes:
        seen: the requests that have come, the last one perhaps in part.
    """

    def __init__(
        self, number: int, end: Client, rng: Random, new_plan: Callable[[str, str], ServerPlan],
        sent: dict[str, list[Sent]], order: Iterator[int], note: Note,
    ) -> None:  # fmt: skip
        self.name = f"connection {number} behind"
        self.end = end
        self.seen: list[Seen] = []
        self.is_gone = False
        self._rng = rng
        self._new_plan = new_plan
        self._sent = sent
        self._order = order
        self._note = note
        self._http = h11.Connection(h11.SERVER)
        self._plan: ServerPlan | None = None  # of the present request
        self._has_responded = False
        self._unsent = b""
        self._leaves_by = ""  # "close" or "reset", when what is unsent has left
        self._peer_ended = False
        self._is_last = False  # the whole request was read, and the response says that no other one may follow

    def move(self) -> None:
        """Does one thing: reads or sends a piece, or leaves."""
        if self.is_gone:
            return
        if self._unsent and self._rng.random() < 0.5:
            self._send(self._rng.choice(_PIECES))
        elif not self._unsent and self._leaves_by and self._rng.random() < 0.3:
            self.leave(self._leaves_by)
        elif self._rng.random() < 0.02 and self._plan is None and self._http.our_state is h11.IDLE:
            self.leave("close")  # it closes its idle connections when it likes
        else:
            self.read(self._rng.choice(_PIECES))

    def leave(self, how: str) -> None:
        self._note(f"{self.name}: {how}")
        self.is_gone = True
        if how == "reset":
            self.end.reset()
        else:
            self.end.close()

    def _send(self, most: int) -> None:
        count = self.end.send(self._unsent[:most])
        self._unsent = self._unsent[count:]
        self._note(f"{self.name} sends {count} bytes")

    def read(self, most: int) -> bool:
        """Reads; whether anything has come."""
        if self.is_gone or self._peer_ended:
            return False
        data = self.end.read(most)
        if not data and not self.end.ended:
            return False
        self._note(f"{self.name} reads {len(data)} bytes{' and the end' if self.end.ended else ''}")
        self._peer_ended = self.end.ended
        if self._is_last and data:
            raise AssertionError(f"{self.name}: a request after Connection: close")
        if self._http.their_state is not h11.ERROR:
            if data:
                self._http.receive_data(data)
            if self.end.ended:
                self._http.receive_data(b"")
            self._read_events()
        return bool(data)

    def _read_events(self) -> None:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if self.end.ended:  # the proxy may give up in the middle of a request, but sends nothing malformed
                    return
                raise AssertionError(f"{self.name}: {error}") from error
            if isinstance(event, h11.Request):
                name, method = event.target.decode(), event.method.decode()
                self._note(f"{self.name} has the head of {method} {name}")
                self.seen.append(Seen(name, method, b"", False, len(self.seen), next(self._order)))
                self._plan = self._new_plan(name, method)
                self._has_responded = False
                if self._plan.before_body:
                    self._respond()
            elif isinstance(event, h11.Data):
                self.seen[-1] = self.seen[-1]._replace(body=self.seen[-1].body + bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.seen[-1] = self.seen[-1]._replace(is_whole=True)
                self._respond()
            else:
                return
            self._begin_next()

    def _begin_next(self) -> None:
        """Both messages are complete: the next request may come."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._plan = None

    def _respond(self) -> None:
        """Queues the response, or the part of it that the plan grants."""
        plan = self._plan
        if plan is None or self._has_responded or self._leaves_by:
            return
        self._has_responded = True
        request = self.seen[-1]
        self._note(f"{self.name} responds to {request.name}: {plan.status}, {plan.framing}, {plan.fate.value}")
        if plan.fate is Fate.NEVER:
            return
        if plan.fate is Fate.EARLY_CLOSE:
            self._leaves_by = "close"
            return
        if plan.fate is Fate.GARBAGE:
            self._unsent += b"220 mail.example ESMTP\r\n"
            self._leaves_by = "close"
            return
        data, closes = self._encode(plan, request.method)
        if plan.fate in (Fate.CUT, Fate.RESET):
            data = data[: int(plan.cut_at * len(data))]
            self._leaves_by = "reset" if plan.fate is Fate.RESET else "close"
            if plan.framing == "close":
                self._leaves_by = "reset"  # otherwise a part could not be told from a whole
        else:
            self._sent.setdefault(request.name, []).append(Sent(plan.status, plan.body))
            if closes or plan.fate in (Fate.CLOSES, Fate.SILENT_CLOSE) or plan.before_body:
                self._leaves_by = "close"
            self._is_last = plan.fate is Fate.CLOSES and request.is_whole
            if plan.fate is Fate.STRAY:
                data += b"stray"
        self._unsent += data

    def _encode(self, plan: ServerPlan, method: str) -> tuple[bytes, bool]:
        """The response, and whether the connection has to end after it."""
        has_content = method != "HEAD" and plan.status not in (204, 304)
        fields = [("X-Name", self.seen[-1].name)]
        framing = plan.framing if has_content else "length"
        if framing == "length" and plan.status not in (204, 304):
            fields.append(("Content-Length", str(len(plan.body))))
        elif framing == "chunked":
            fields.append(("Transfer-Encoding", "chunked"))
        if plan.fate is Fate.CLOSES:
            fields.append(("Connection", "close"))
        head = h11.Response(status_code=plan.status, headers=fields)
        data = plan.interim + (self._http.send(head) or b"")
        if has_content and plan.body:
            data += self._http.send(h11.Data(plan.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        return data, self._http.our_state is not h11.DONE
