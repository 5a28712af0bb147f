"""The adviser: what the figures say about the settings, in words.

Each rule is a function from a snapshot to its advice, or nothing. It speaks only from evidence, which its words begin
with, and only when there is enough of it: a rule that cries wolf is worse than none. Knows no sockets and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .snapshot import PeerFigures, Snapshot

__all__ = ["RULES", "Advice", "RateLimitedAdvice", "advise"]

_ENOUGH = 20  # connections, before a share of them means anything
_MARGIN = 1.0  # seconds by which the other side must close first


@dataclass(frozen=True)
class Advice:
    """rule: its name, and what sets it apart where one rule may speak several times. text: evidence, then advice."""

    rule: str
    text: str


Rule = Callable[[Snapshot], Iterator[Advice]]


def advise(snapshot: Snapshot) -> list[Advice]:
    """All that is to be said, the most urgent first."""
    return [advice for rule in RULES for advice in rule(snapshot)]


def proxy_waits_longer(snapshot: Snapshot) -> Iterator[Advice]:
    """The server must be the one that waits longer: a proxy that does sends requests into closed connections."""
    ours = snapshot.settings.keep_alive
    hosts: dict[float, list[str]] = {}
    for peer in _with_keep_alive(snapshot):
        theirs = peer.closes_after
        if theirs and ours < theirs + _MARGIN:
            hosts.setdefault(theirs, []).append(peer.host)
    for theirs, names in hosts.items():
        who = f"the proxy at {names[0]} closes" if len(names) == 1 else f"the proxies at {_listed(names)} close"
        yield Advice(
            f"proxy waits longer: {_seconds(theirs)}",
            f"{who} idle connections after {_seconds(theirs)}, yours after {_seconds(ours)}: raise --keep-alive above "
            f"{_number(max(ours, theirs))}",
        )


def races_lost(snapshot: Snapshot) -> Iterator[Advice]:
    """Requests that met our close, where time was up; whoever had to make room or met the end of the server did not
    lose its request for the settings of keep-alive."""
    count = snapshot.closed["idle, race lost"]
    if not count:
        return
    hosts = [peer.host for peer in snapshot.peers if peer.races_lost]
    whose = f" (from {_listed(hosts)})" if hosts else ""
    yield Advice(
        "races lost",
        f"{_times(count, 'request')}{whose} came when the connection had just been closed as idle: raise "
        f"--keep-alive above the {_seconds(snapshot.settings.keep_alive)} it is, so that clients are the ones to close",
    )


def evicted(snapshot: Snapshot) -> Iterator[Advice]:
    """Idle connections that had to make room."""
    count = snapshot.closed["evicted"] + snapshot.closed["evicted, race lost"]
    if count:
        yield Advice(
            "evicted",
            f"{_times(count, 'idle connection')} had to be evicted for new ones: raise the descriptor limit "
            "(ulimit -n) or --max-connections, or lower --keep-alive",
        )


def peer_never_closes(snapshot: Snapshot) -> Iterator[Advice]:
    """A host that has lost requests, and of whose idle connections we close each: if it is a proxy, its time-out is
    longer than ours, only that nobody has seen it."""
    for peer in _with_keep_alive(snapshot):
        if peer.times_closed or not peer.races_lost:
            continue
        if peer.outlived >= _ENOUGH and peer.outlived >= 0.9 * (peer.connections - peer.silent):
            yield Advice(
                f"never closes: {peer.host}",
                f"{peer.host} has never closed an idle connection in the {_seconds(snapshot.settings.keep_alive)} of "
                f"--keep-alive ({peer.outlived} were closed on it): if it is a proxy, raise --keep-alive above its own",
            )


def single_requests(snapshot: Snapshot) -> Iterator[Advice]:
    """Connections that could have been kept, and were not used again."""
    if not snapshot.settings.keep_alive:
        return
    turned_away = snapshot.closed["turned away"]  # unasked, but not unanswered
    single, used = snapshot.per_connection.counts[0] - turned_away, snapshot.per_connection.count - turned_away
    if used >= _ENOUGH and single >= used / 2:
        who = [peer.host for peer in snapshot.peers if peer.single >= max(_ENOUGH, single / 2)]
        yield Advice(
            "single requests",
            f"{_share(single, used)} of all connections carry one request{f' ({_listed(who)})' if who else ''}: does "
            "the client disable keep-alive? nginx does towards its upstreams, unless told otherwise",
        )


def request_limit(snapshot: Snapshot) -> Iterator[Advice]:
    """Connections that end in the middle of their work."""
    count, limit = snapshot.closed["request limit"], snapshot.settings.keep_alive_requests
    if count >= _ENOUGH and count >= 0.1 * snapshot.ended:
        yield Advice(
            "request limit",
            f"{_share(count, snapshot.ended)} of all connections ended because they had carried {limit} requests: "
            "raise --keep-alive-requests",
        )


def keep_alive_off(snapshot: Snapshot) -> Iterator[Advice]:
    """Nothing persists, and there is much to gain."""
    if not snapshot.settings.keep_alive and snapshot.accepted >= 50 * _ENOUGH:
        yield Advice(
            "keep-alive off",
            f"keep-alive is off, and each of {snapshot.requests} requests took a handshake: set --keep-alive",
        )


def slow_heads(snapshot: Snapshot) -> Iterator[Advice]:
    """Heads that did not arrive in time."""
    count = snapshot.closed["header timeout"]
    if count >= _ENOUGH and count >= 0.05 * snapshot.ended:
        yield Advice(
            "slow heads",
            f"{_times(count, 'request')} did not arrive within the {_seconds(snapshot.settings.header_timeout)} of "
            "--header-timeout: if that is an attack, lower it; if the clients are slow, raise it",
        )


def slow_readers(snapshot: Snapshot) -> Iterator[Advice]:
    """Answers that nobody took."""
    count = snapshot.closed["send timeout"]
    if count >= _ENOUGH and count >= 0.05 * snapshot.ended:
        yield Advice(
            "slow readers",
            f"{_times(count, 'answer')} stood still for the {_seconds(snapshot.settings.send_timeout)} of "
            "--send-timeout: raise it if the clients are slow",
        )


def silent_connections(snapshot: Snapshot) -> Iterator[Advice]:
    """Connections without a request."""
    silent, ended = snapshot.unused, snapshot.ended
    if silent >= _ENOUGH and silent >= ended / 2:
        who = [peer.host for peer in snapshot.peers if peer.silent >= silent / 2]
        yield Advice(
            "silent connections",
            f"{_share(silent, ended)} of all connections end without a request{f' ({_listed(who)})' if who else ''}: "
            "if that is a health check, have it ask for a page, since an open port says little",
        )


def crowded(snapshot: Snapshot) -> Iterator[Advice]:
    """Idle connections that fill the house, long after they are of use."""
    most, idle = snapshot.settings.max_connections, snapshot.open.get("IDLE", 0)
    within = snapshot.gaps.quantile(0.99)
    if most and idle >= 0.8 * most and within is not None and 2 * within < snapshot.settings.keep_alive:
        yield Advice(
            "crowded",
            f"{idle} of at most {most} connections are idle, and 99 % of all reuse happens within {_seconds(within)}: "
            f"lower --keep-alive from {_number(snapshot.settings.keep_alive)}, or raise --max-connections",
        )


RULES: tuple[Rule, ...] = (
    races_lost,
    proxy_waits_longer,
    peer_never_closes,
    evicted,
    crowded,
    request_limit,
    single_requests,
    keep_alive_off,
    slow_heads,
    slow_readers,
    silent_connections,
)


class RateLimitedAdvice:
    """What has been said is not said again before `seconds` have passed: for the log."""

    def __init__(self, seconds: float = 6 * 3600.0) -> None:
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def of(self, advices: Iterable[Advice], now: float) -> list[Advice]:
        """Those that are worth a line at `now`, which is seconds of any clock."""
        self._said = {rule: at for rule, at in self._said.items() if now - at < self._seconds}
        fresh = [advice for advice in advices if advice.rule not in self._said]
        self._said.update((advice.rule, now) for advice in fresh)
        return fresh


def _with_keep_alive(snapshot: Snapshot) -> tuple[PeerFigures, ...]:
    return snapshot.peers if snapshot.settings.keep_alive else ()


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _seconds(value: float) -> str:
    return f"{_number(value)} s"


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def _listed(hosts: list[str]) -> str:
    shown = ", ".join(hosts[:3])
    return f"{shown} and {len(hosts) - 3} more" if len(hosts) > 3 else shown
