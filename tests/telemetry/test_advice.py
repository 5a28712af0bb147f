"""The adviser's rules: each speaks when it should, says this, and is silent a little short of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from kaserve.telemetry.advice import RULES, Advice, RateLimitedAdvice, advise
from kaserve.telemetry.histogram import COUNTS, TIMES, Histogram
from kaserve.telemetry.snapshot import Distribution, PeerFigures, Settings, Snapshot

PROXY = PeerFigures("10.0.0.5", connections=100, requests=5000, times_closed=90, closes_after=60.0)
THIRTY = Settings(keep_alive=30.0)
LOST = Counter({"idle, race lost": 1})


def spread(bounds: tuple[float, ...], *values: float) -> Distribution:
    histogram = Histogram(bounds)
    for value in values:
        histogram.add(value)
    return Distribution.of(histogram)


def one_request_of(single: int, more: int) -> Snapshot:
    return Snapshot(per_connection=spread(COUNTS, *[1.0] * single, *[7.0] * more))


def closed(**reasons: int) -> Counter[str]:
    return Counter({reason.replace("_", " "): count for reason, count in reasons.items()})


CROWD = Snapshot(
    settings=Settings(max_connections=100), open={"IDLE": 80, "SEND": 1}, gaps=spread(TIMES, *[0.4] * 200, 90.0)
)

# What is to be seen, what is said, and what is just not enough.
CASES: dict[str, tuple[Snapshot, str, list[Snapshot]]] = {
    "proxy waits longer": (
        Snapshot(settings=THIRTY, peers=(PROXY,)),
        "the proxy at 10.0.0.5 closes idle connections after 60 s, yours after 30 s: raise --keep-alive above 60",
        [
            Snapshot(settings=Settings(keep_alive=61.0), peers=(PROXY,)),
            Snapshot(settings=THIRTY, peers=(replace(PROXY, closes_after=None),)),
            Snapshot(settings=THIRTY, peers=(replace(PROXY, closes_after=29.0),)),
            Snapshot(settings=Settings(keep_alive=0.0), peers=(PROXY,)),
        ],
    ),
    "proxy closes at the same time": (
        Snapshot(settings=Settings(keep_alive=60.5), peers=(PROXY,)),
        "the proxy at 10.0.0.5 closes idle connections after 60 s, yours after 60.5 s: raise --keep-alive above 60.5",
        [],
    ),
    "proxies that do the same": (
        Snapshot(settings=THIRTY, peers=tuple(replace(PROXY, host=f"10.0.0.{number}") for number in range(5, 10))),
        "the proxies at 10.0.0.5, 10.0.0.6, 10.0.0.7 and 2 more close idle connections after 60 s, yours after 30 s: "
        "raise --keep-alive above 60",
        [],
    ),
    "races lost": (
        Snapshot(settings=THIRTY, closed=LOST, peers=(PeerFigures("10.0.0.7", races_lost=1),)),
        "1 request (from 10.0.0.7) came when the connection had just been closed as idle: raise --keep-alive above the "
        "30 s it is, so that clients are the ones to close",
        [Snapshot(), Snapshot(races_lost=2, closed=Counter({"drain, race lost": 1, "shutdown, race lost": 1}))],
    ),
    "races lost, of many": (
        Snapshot(
            closed=Counter({"idle, race lost": 9}),
            peers=tuple(PeerFigures(f"h{number}", races_lost=1) for number in range(5)),
        ),
        "9 requests (from h0, h1, h2 and 2 more) came when the connection had just been closed as idle: raise "
        "--keep-alive above the 120 s it is, so that clients are the ones to close",
        [],
    ),
    "evicted": (
        Snapshot(closed=Counter({"evicted": 2, "evicted, race lost": 1, "idle": 5})),
        "3 idle connections had to be evicted for new ones: raise the descriptor limit (ulimit -n) or "
        "--max-connections, or lower --keep-alive",
        [Snapshot(closed=closed(idle=500))],
    ),
    "never closes": (
        Snapshot(
            settings=THIRTY, peers=(PeerFigures("10.0.0.7", connections=22, silent=1, outlived=20, races_lost=1),)
        ),
        "10.0.0.7 has never closed an idle connection in the 30 s of --keep-alive (20 were closed on it): if it is a "
        "proxy, raise --keep-alive above its own",
        [
            Snapshot(peers=(PeerFigures("h", connections=22, silent=1, outlived=20),)),
            Snapshot(peers=(PeerFigures("h", connections=22, silent=1, outlived=19),)),
            Snapshot(peers=(PeerFigures("h", connections=30, outlived=20, times_closed=1),)),
        ],
    ),
    "single requests": (
        one_request_of(10, 10),
        "50 % of all connections carry one request: does the client disable keep-alive? nginx does towards its "
        "upstreams, unless told otherwise",
        [
            one_request_of(9, 11),
            one_request_of(10, 9),
            replace(one_request_of(40, 11), closed=closed(turned_away=30)),
            replace(one_request_of(10, 10), settings=Settings(keep_alive=0.0)),
        ],
    ),
    "single requests of one host": (
        replace(one_request_of(40, 10), peers=(PeerFigures("10.0.0.7", single=30), PeerFigures("h", single=10))),
        "80 % of all connections carry one request (10.0.0.7): does the client disable keep-alive? nginx does towards "
        "its upstreams, unless told otherwise",
        [],
    ),
    "request limit": (
        Snapshot(closed=closed(request_limit=20, client=180)),
        "10 % of all connections ended because they had carried 1000 requests: raise --keep-alive-requests",
        [Snapshot(closed=closed(request_limit=19)), Snapshot(closed=closed(request_limit=20, client=181))],
    ),
    "keep-alive off": (
        Snapshot(settings=Settings(keep_alive=0.0), accepted=1000, requests=990),
        "keep-alive is off, and each of 990 requests took a handshake: set --keep-alive",
        [Snapshot(settings=Settings(keep_alive=0.0), accepted=999), Snapshot(accepted=1000)],
    ),
    "slow heads": (
        Snapshot(closed=closed(header_timeout=20, client=380)),
        "20 requests did not arrive within the 30 s of --header-timeout: if that is an attack, lower it; if the "
        "clients are slow, raise it",
        [Snapshot(closed=closed(header_timeout=19)), Snapshot(closed=closed(header_timeout=20, client=381))],
    ),
    "slow readers": (
        Snapshot(closed=closed(send_timeout=20)),
        "20 answers stood still for the 60 s of --send-timeout: raise it if the clients are slow",
        [Snapshot(closed=closed(send_timeout=19))],
    ),
    "silent connections": (
        Snapshot(unused=20, closed=closed(client=40), peers=(PeerFigures("10.0.0.9", silent=20),)),
        "50 % of all connections end without a request (10.0.0.9): if that is a health check, have it ask for a page, "
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
def test_what_is_said(case: str) -> None:
    seen, said, _ = CASES[case]
    assert said in [advice.text for advice in advise(seen)]


@pytest.mark.parametrize("seen", [snapshot for _, _, short in CASES.values() for snapshot in short])
def test_what_is_not_enough(seen: Snapshot) -> None:
    assert advise(seen) == []


def test_every_rule_has_a_case() -> None:
    assert {advice.rule.partition(":")[0] for seen, _, _ in CASES.values() for advice in advise(seen)} == {
        next(iter(_spoken(rule))) for rule in RULES
    }


def _spoken(rule: Any) -> set[str]:
    """The names under which `rule` speaks of any case."""
    return {advice.rule.partition(":")[0] for seen, _, _ in CASES.values() for advice in rule(seen)}


def test_the_most_urgent_comes_first() -> None:
    seen = replace(one_request_of(20, 0), closed=LOST + closed(evicted=1))
    assert [advice.rule for advice in advise(seen)] == ["races lost", "evicted", "single requests"]


def test_nothing_to_say() -> None:
    assert advise(Snapshot()) == []


def test_news_are_told_once_in_a_while() -> None:
    news = RateLimitedAdvice(100.0)
    first, second = Advice("a", "3 of them"), Advice("b", "x")
    assert news.of([first], 1000.0) == [first]
    assert news.of([Advice("a", "4 of them"), second], 1050.0) == [second]
    assert news.of([first, second], 1099.0) == []
    assert news.of([first, second], 1100.0) == [first]
