"""Advice: what the figures say about the settings, in sentences for the log and the live page.

Each rule is a function from a snapshot to its advice, if it has any. A rule speaks only from evidence, with which its
sentence begins, and only when there is enough of it: a rule that is wrong once is ignored the next time. Knows no
sockets and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .endings import Ending
from .snapshot import PeerFigures, Snapshot

__all__ = ["RULES", "Advice", "RateLimitedAdvice", "advise"]

_MIN_CONNECTIONS = 20  # below that many a share of them means little
_MARGIN = 1.0  # seconds by which the proxy's idle timeout must be shorter than the server's
_MAX_HOSTS = 3  # that one sentence names


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Attributes:
        rule: the name of the rule, and after a colon what the advice is about if one rule may give several.
        text: a sentence: the evidence, then the advice.
    """

    rule: str
    text: str


Rule = Callable[[Snapshot], Iterator[Advice]]


def advise(snapshot: Snapshot) -> list[Advice]:
    """Returns the advice of all rules, the most urgent first."""
    return [advice for rule in RULES for advice in rule(snapshot)]


def proxy_waits_longer(snapshot: Snapshot) -> Iterator[Advice]:
    """A proxy keeps idle connections longer than the server, so that it may send a request into a connection that the
    server has just closed. The server must be the one that waits longer."""
    ours = snapshot.settings.keep_alive
    hosts: dict[float, list[str]] = {}
    for peer in _peers_with_keep_alive(snapshot):
        theirs = peer.idle_timeout
        if theirs and ours < theirs + _MARGIN:
            hosts.setdefault(theirs, []).append(peer.host)
    for theirs, names in hosts.items():
        who = f"the proxy at {names[0]} closes" if len(names) == 1 else f"the proxies at {_listed(names)} close"
        yield Advice(
            f"proxy waits longer: {_seconds(theirs)}",
            f"{who} idle connections after {_seconds(theirs)}, this server after {_seconds(ours)}: raise --keep-alive "
            f"above {_number(max(ours, theirs))}",
        )


def races_lost(snapshot: Snapshot) -> Iterator[Advice]:
    """Requests arrived just after the server had closed their connection because keep_alive had passed. Requests that
    met an eviction or a shutdown are not counted here: a longer keep_alive would not have saved them."""
    count = snapshot.races_lost[Ending.IDLE]
    if not count:
        return
    hosts = [peer.host for peer in snapshot.peers if peer.races_lost]
    whose = f" (from {_listed(hosts)})" if hosts else ""
    yield Advice(
        "races lost",
        f"{_counted(count, 'request')}{whose} arrived just after the connection had been closed as idle: raise "
        f"--keep-alive above the present {_seconds(snapshot.settings.keep_alive)}, so that the clients close first",
    )


def evicted(snapshot: Snapshot) -> Iterator[Advice]:
    """Idle connections were closed to admit new ones."""
    count = snapshot.closed[Ending.EVICTED]
    if count:
        yield Advice(
            "evicted",
            f"{_counted(count, 'idle connection')} had to be evicted for new ones: raise the descriptor limit "
            "(ulimit -n) or --max-connections, or lower --keep-alive",
        )


def peer_never_closes(snapshot: Snapshot) -> Iterator[Advice]:
    """A host has lost requests, and the server closes each of its idle connections: if it is a proxy, its idle timeout
    is longer than the server's, and therefore never observed."""
    for peer in _peers_with_keep_alive(snapshot):
        if peer.closed_by_peer or not peer.races_lost:
            continue
        closed, used = peer.closed_by_server, peer.connections - peer.unused
        if _is_at_least(0.9, closed, used):
            yield Advice(
                f"never closes: {peer.host}",
                f"{peer.host} has never closed an idle connection within the {_seconds(snapshot.settings.keep_alive)} "
                f"of --keep-alive ({closed} were closed by this server): if it is a proxy, raise --keep-alive above "
                "its idle timeout",
            )


def single_requests(snapshot: Snapshot) -> Iterator[Advice]:
    """Connections could have been kept, but carried only one request."""
    if not snapshot.settings.keep_alive:
        return
    # A rejected connection got a response without having sent a request; it says nothing about its client.
    rejected = snapshot.closed[Ending.REJECTED]
    single, used = snapshot.per_connection.counts[0] - rejected, snapshot.per_connection.count - rejected
    if used >= _MIN_CONNECTIONS and single >= used / 2:
        hosts = [peer.host for peer in snapshot.peers if peer.single_request >= max(_MIN_CONNECTIONS, single / 2)]
        yield Advice(
            "single requests",
            f"{_share(single, used)} of all connections carry one request{f' ({_listed(hosts)})' if hosts else ''}: "
            "does the client disable keep-alive? nginx does so towards its upstreams by default",
        )


def request_limit(snapshot: Snapshot) -> Iterator[Advice]:
    """Busy connections end because they have carried as many requests as they may."""
    count, limit = snapshot.closed[Ending.REQUEST_LIMIT], snapshot.settings.keep_alive_requests
    if _is_at_least(0.1, count, snapshot.ended):
        yield Advice(
            "request limit",
            f"{_share(count, snapshot.ended)} of all connections ended because they had carried {limit} requests: "
            "raise --keep-alive-requests",
        )


def keep_alive_off(snapshot: Snapshot) -> Iterator[Advice]:
    """No connection persists on a server that is busy enough to gain from it."""
    if not snapshot.settings.keep_alive and snapshot.accepted >= 50 * _MIN_CONNECTIONS:
        yield Advice(
            "keep-alive off",
            f"keep-alive is off, and each of {snapshot.requests} requests needed a handshake: set --keep-alive",
        )


def slow_headers(snapshot: Snapshot) -> Iterator[Advice]:
    """Request headers did not arrive in time."""
    count = snapshot.closed[Ending.HEADER_TIMEOUT]
    if _is_at_least(0.05, count, snapshot.ended):
        yield Advice(
            "slow headers",
            f"the headers of {_counted(count, 'request')} did not arrive within the "
            f"{_seconds(snapshot.settings.header_timeout)} of --header-timeout: if that is an attack, lower it; if the "
            "clients are slow, raise it",
        )


def slow_readers(snapshot: Snapshot) -> Iterator[Advice]:
    """Clients did not read their responses."""
    count = snapshot.closed[Ending.SEND_TIMEOUT]
    if _is_at_least(0.05, count, snapshot.ended):
        yield Advice(
            "slow readers",
            f"{_counted(count, 'response')} made no progress for the {_seconds(snapshot.settings.send_timeout)} of "
            "--send-timeout: raise it if the clients are slow",
        )


def unused_connections(snapshot: Snapshot) -> Iterator[Advice]:
    """Connections end without a request."""
    unused, ended = snapshot.unused, snapshot.ended
    if _is_at_least(0.5, unused, ended):
        hosts = [peer.host for peer in snapshot.peers if peer.unused >= unused / 2]
        yield Advice(
            "unused connections",
            f"{_share(unused, ended)} of all connections end without a request"
            f"{f' ({_listed(hosts)})' if hosts else ''}: if that is a health check, let it request a page, since an "
            "open port says little",
        )


def crowded(snapshot: Snapshot) -> Iterator[Advice]:
    """Idle connections take most of the places, although connections are hardly ever used again after so long."""
    limit, idle = snapshot.settings.max_connections, snapshot.open.get("IDLE", 0)
    within = snapshot.gaps.quantile(0.99)
    if limit and idle >= 0.8 * limit and within is not None and 2 * within < snapshot.settings.keep_alive:
        yield Advice(
            "crowded",
            f"{idle} of at most {limit} connections are idle, and 99 % of all reuse happens within {_seconds(within)}: "
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
    slow_headers,
    slow_readers,
    unused_connections,
)
"""All rules, the most urgent first: lost requests, then lost handshakes, then everything else."""


class RateLimitedAdvice:
    """Chooses the advice that is worth a line in the log: each piece once in `seconds`.

    The evidence in a text changes all the time ("3 requests", "4 requests"), so pieces are compared by their rule.
    """

    def __init__(self, seconds: float = 6 * 3600.0) -> None:
        self._seconds = seconds
        self._given_at: dict[str, float] = {}

    def select(self, advice: Iterable[Advice], now: float) -> list[Advice]:
        """Returns the pieces that have not been returned during the last `seconds`.

        Args:
            advice: all present advice.
            now: seconds of any clock.
        """
        self._given_at = {rule: at for rule, at in self._given_at.items() if now - at < self._seconds}
        selected = [piece for piece in advice if piece.rule not in self._given_at]
        self._given_at.update((piece.rule, now) for piece in selected)
        return selected


def _peers_with_keep_alive(snapshot: Snapshot) -> tuple[PeerFigures, ...]:
    """Returns the peers; none while keep-alive is off, since no connection is idle then."""
    return snapshot.peers if snapshot.settings.keep_alive else ()


def _is_at_least(share: float, part: int, whole: int) -> bool:
    """Whether `part` is at least that share of the whole, and large enough for a share to mean something."""
    return part >= _MIN_CONNECTIONS and part >= share * whole


def _number(value: float) -> str:
    """Formats a number with three significant digits, and without an exponent."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _seconds(value: float) -> str:
    return f"{_number(value)} s"


def _counted(count: int, noun: str) -> str:
    """Returns "1 request" or "2 requests"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def _listed(hosts: list[str]) -> str:
    """Names a few hosts, and says how many more there are."""
    shown = ", ".join(hosts[:_MAX_HOSTS])
    return f"{shown} and {len(hosts) - _MAX_HOSTS} more" if len(hosts) > _MAX_HOSTS else shown
