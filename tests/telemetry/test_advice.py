"""The rules of the advice: what each says, when it says it, and that it is silent just below its threshold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from kaserve.telemetry.advice import RULES, Advice, RateLimitedAdvice, advise
from kaserve.telemetry.endings import Ending
from kaserve.telemetry.histogram import COUNTS, TIMES, Histogram
from kaserve.telemetry.snapshot import Distribution, PeerFigures, Settings, Snapshot

PROXY = PeerFigures("10.0.0.5", connections=100, requests=5000, closed_by_peer=90, idle_timeout=60.0)
THIRTY = Settings(keep_alive=30.0)
LOST = Counter({Ending.IDLE: 1})


def spread(bounds: tuple[float, ...], *values: float) -> Distribution:
    histogram = Histogram(bounds)
    for value in values:
        histogram.add(value)
    return Distribution.of(histogram)


def one_request_of(single: int, more: int) -> Snapshot:
    return Snapshot(per_connection=spread(COUNTS, *[1.0] * single, *[7.0] * more))


def closed(**endings: int) -> Counter[Ending]:
    """Connections that have ended, by the reason in lower case."""
    return Counter({Ending[name.upper()]: count for name, count in endings.items()})


CROWD = Snapshot(
    settings=Settings(max_connections=100), open={"IDLE": 80, "SEND": 1}, gaps=spread(TIMES, *[0.4] * 200, 90.0)
)

# The name of a case: figures, the advice that they give, and figures that are just not enough for it.
CASES: dict[str, tuple[Snapshot, str, list[Snapshot]]] = {
    "proxy waits longer": (
        Snapshot(settings=THIRTY, peers=(PROXY,)),
        "the proxy at 10.0.0.5 closes idle connections after 60 s, this server after 30 s: raise --keep-alive above 60",
        [
            Snapshot(settings=Settings(keep_alive=61.0), peers=(PROXY,)),
            Snapshot(settings=THIRTY, peers=(replace(PROXY, idle_timeout=None),)),
            Snapshot(settings=THIRTY, peers=(replace(PROXY, idle_timeout=29.0),)),
            Snapshot(settings=Settings(keep_alive=0.0), peers=(PROXY,)),
        ],
    ),
    "proxy closes at the same time": (
        Snapshot(settings=Settings(keep_alive=60.5), peers=(PROXY,)),
        "the proxy at 10.0.0.5 closes idle connections after 60 s, this server after 60.5 s: raise "
        "--keep-alive above 60.5",
        [],
    ),
    "proxies that do the same": (
        Snapshot(settings=THIRTY, peers=tuple(replace(PROXY, host=f"10.0.0.{number}") for number in range(5, 10))),
        "the proxies at 10.0.0.5, 10.0.0.6, 10.0.0.7 and 2 more close idle connections after 60 s, this server "
        "after 30 s: raise --keep-alive above 60",
        [],
    ),
    "races lost": (
        Snapshot(settings=THIRTY, races_lost=LOST, peers=(PeerFigures("10.0.0.7", races_lost=1),)),
        "1 request (from 10.0.0.7) arrived just after the connection had been closed as idle: raise --keep-alive above "
        "the present 30 s, so that the clients close first",
        [Snapshot(), Snapshot(races_lost=closed(drain=1, shutdown=1), closed=closed(drain=1, shutdown=1))],
    ),
    "races lost, of many": (
        Snapshot(
            races_lost=closed(idle=9),
            peers=tuple(PeerFigures(f"h{number}", races_lost=1) for number in range(5)),
        ),
        "9 requests (from h0, h1, h2 and 2 more) arrived just after the connection had been closed as idle: raise "
        "--keep-alive above the present 120 s, so that the clients close first",
        [],
    ),
    "evicted": (
        Snapshot(closed=closed(evicted=3, idle=5)),
        "3 idle connections had to be evicted for new ones: raise the descriptor limit (ulimit -n) or "
        "--max-connections, or lower --keep-alive",
        [Snapshot(closed=closed(idle=500))],
    ),
    "never closes": (
        Snapshot(
            settings=THIRTY,
            peers=(PeerFigures("10.0.0.7", connections=22, unused=1, closed_by_server=20, races_lost=1),),
        ),
        "10.0.0.7 has never closed an idle connection within the 30 s of --keep-alive (20 were closed by this server): "
        "if it is a proxy, raise --keep-alive above its idle timeout",
        [
            Snapshot(peers=(PeerFigures("h", connections=22, unused=1, closed_by_server=20),)),
            Snapshot(peers=(PeerFigures("h", connections=22, unused=1, closed_by_server=19),)),
            Snapshot(peers=(PeerFigures("h", connections=30, closed_by_server=20, closed_by_peer=1),)),
        ],
    ),
    "single requests": (
        one_request_of(10, 10),
        "50 % of all connections carry one request: does the client disable keep-alive? nginx does so towards "
        "its upstreams by default",
        [
            one_request_of(9, 11),
            one_request_of(10, 9),
            replace(one_request_of(40, 11), closed=closed(rejected=30)),
            replace(one_request_of(10, 10), settings=Settings(keep_alive=0.0)),
        ],
    ),
    "single requests of one host": (
        replace(
            one_request_of(40, 10),
            peers=(PeerFigures("10.0.0.7", single_request=30), PeerFigures("h", single_request=10)),
        ),
        "80 % of all connections carry one request (10.0.0.7): does the client disable keep-alive? nginx does so "
        "towards its upstreams by default",
        [],
    ),
    "request limit": (
        Snapshot(closed=closed(request_limit=20, client=180)),
        "10 % of all connections ended because they had carried 1000 requests: raise --keep-alive-requests",
        [Snapshot(closed=closed(request_limit=19)), Snapshot(closed=closed(request_limit=20, client=181))],
    ),
    "keep-alive off": (
        Snapshot(settings=Settings(keep_alive=0.0), accepted=1000, requests=990),
        "keep-alive is off, and each of 990 requests needed a handshake: set --keep-alive",
        [Snapshot(settings=Settings(keep_alive=0.0), accepted=999), Snapshot(accepted=1000)],
    ),
    "slow headers": (
        Snapshot(closed=closed(header_timeout=20, client=380)),
        "the headers of 20 requests did not arrive within the 30 s of --header-timeout: if that is an attack, lower "
        "it; if the clients are slow, raise it",
        [Snapshot(closed=closed(header_timeout=19)), Snapshot(closed=closed(header_timeout=20, client=381))],
    ),
    "slow readers": (
        Snapshot(closed=closed(send_timeout=20)),
        "20 responses made no progress for the 60 s of --send-timeout: raise it if the clients are slow",
        [Snapshot(closed=closed(send_timeout=19))],
    ),
    "unused connections": (
        Snapshot(unused=20, closed=closed(client=40), peers=(PeerFigures("10.0.0.9", unused=20),)),
        "50 % of all connections end without a request (10.0.0.9): if that is a health check, let it request a page, "
        "since an open port says little",
        [Snapshot(unused=19, closed=closed(client=19)), Snapshot(unused=20, closed=closed(client=41))],
    ),
    "crowded": (
        CROWD,
        "80 of at most 100 connections are idle, and 99 % of all reuse happens within 0.5 s: lower --keep-alive from "
        "120, or raise --max-connections",
        [
            replace(CROWD, open={"IDLE": 79}),
            replace(CROWD, gaps=spread(TIMES)),
            replace(CROWD, gaps=spread(TIMES, 90.0)),
            replace(CROWD, settings=Settings(keep_alive=0.9, max_connections=100)),
            replace(CROWD, settings=Settings()),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_figures_give_the_advice(case: str) -> None:
    snapshot, text, _ = CASES[case]
    assert text in [advice.text for advice in advise(snapshot)]


@pytest.mark.parametrize(
    "snapshot",
    [
        pytest.param(snapshot, id=f"{case}, {number}")
        for case, (_, _, too_little) in CASES.items()
        for number, snapshot in enumerate(too_little)
    ],
)
def test_figures_just_below_the_threshold_give_no_advice(snapshot: Snapshot) -> None:
    assert advise(snapshot) == []


def test_every_rule_has_a_case() -> None:
    assert {_rule_name(advice) for snapshot, _, _ in CASES.values() for advice in advise(snapshot)} == {
        next(iter(_names_of(rule))) for rule in RULES
    }


def _rule_name(advice: Advice) -> str:
    """The name of the rule, without what the piece is about."""
    return advice.rule.partition(":")[0]


def _names_of(rule: Any) -> set[str]:
    """The names that the advice of `rule` has in all cases."""
    return {_rule_name(advice) for snapshot, _, _ in CASES.values() for advice in rule(snapshot)}


def test_the_most_urgent_advice_comes_first() -> None:
    snapshot = replace(one_request_of(20, 0), races_lost=LOST, closed=closed(idle=1, evicted=1))
    assert [advice.rule for advice in advise(snapshot)] == ["races lost", "evicted", "single requests"]


def test_a_new_server_gets_no_advice() -> None:
    assert advise(Snapshot()) == []


def test_each_piece_of_advice_is_selected_once_in_a_while() -> None:
    rate_limited = RateLimitedAdvice(100.0)
    first, second = Advice("a", "3 of them"), Advice("b", "x")
    assert rate_limited.select([first], 1000.0) == [first]
    assert rate_limited.select([Advice("a", "4 of them"), second], 1050.0) == [second]
    assert rate_limited.select([first, second], 1099.0) == []
    assert rate_limited.select([first, second], 1100.0) == [first]
