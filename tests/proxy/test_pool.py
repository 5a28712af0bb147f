"""The pool: which idle connection is used, and for how long one is trusted."""

from __future__ import annotations

import pytest

from kaserve.proxy.pool import Pool


class Idle:
    """An idle connection."""

    def __init__(self, idle_from: float = 0.0, announced: int | None = None) -> None:
        self.idle_from = idle_from
        self.announced = announced


@pytest.fixture
def pool() -> Pool[Idle]:
    return Pool(2, 60.0)


def test_the_connection_used_last_is_used_next(pool: Pool[Idle]) -> None:
    first, second = Idle(0.0), Idle(1.0)
    pool.keep(first, 0.0)
    pool.keep(second, 1.0)
    assert pool.take(2.0) is second
    assert pool.take(2.0) is first
    assert pool.take(2.0) is None


def test_the_oldest_makes_room(pool: Pool[Idle]) -> None:
    connections = [Idle(float(second)) for second in range(3)]
    assert [pool.keep(each, each.idle_from) for each in connections] == [
        (True, None),
        (True, None),
        (True, connections[0]),
    ]
    assert pool.idle == connections[1:]


def test_a_pool_without_room_keeps_nothing() -> None:
    assert Pool[Idle](0, 60.0).keep(Idle(), 0.0) == (False, None)


def test_our_own_limit_counts(pool: Pool[Idle]) -> None:
    pool.keep(Idle(0.0), 0.0)
    assert pool.take(60.0) is None
    assert pool.take(59.9) is not None


def test_what_the_upstream_announces_counts_less_a_second(pool: Pool[Idle]) -> None:
    """`Keep-Alive: timeout=5`: a request that is sent after 4.9 s may arrive when the upstream has closed."""
    pool.keep(Idle(0.0, announced=5), 0.0)
    assert pool.take(4.0) is None
    assert pool.take(3.9) is not None


@pytest.mark.parametrize("announced", [0, 1])
def test_a_connection_that_is_announced_to_end_at_once_is_not_kept(announced: int, pool: Pool[Idle]) -> None:
    assert pool.keep(Idle(0.0, announced=announced), 0.0) == (False, None)


def test_what_the_upstream_was_seen_to_do_twice_counts(pool: Pool[Idle]) -> None:
    seen = []
    for idle, now in ((2.0, 10.0), (2.05, 20.0)):
        pool.observe(idle, now)
        seen.append(pool.seen)
    assert seen == [None, 2.0]  # after the first, it may have restarted
    assert pool.limit(Idle(), 21.0) == pytest.approx(1.5)


def test_a_short_time_is_halved_at_most(pool: Pool[Idle]) -> None:
    pool.observe(0.2, 10.0)
    pool.observe(0.2, 20.0)
    assert pool.limit(Idle(), 21.0) == pytest.approx(0.1)


def test_different_times_say_nothing(pool: Pool[Idle]) -> None:
    for number, idle in enumerate([0.5, 3.0, 9.0, 1.0]):
        pool.observe(idle, 10.0 * number)
    assert pool.seen is None


def test_connections_that_end_together_count_once(pool: Pool[Idle]) -> None:
    """A server that restarts closes all of them; those that were idle equally long say nothing."""
    for _ in range(5):
        pool.observe(0.3, 10.0)
    assert pool.seen is None


def test_what_was_seen_is_forgotten(pool: Pool[Idle]) -> None:
    pool.observe(2.0, 10.0)
    pool.observe(2.0, 20.0)
    assert pool.limit(Idle(), 620.0) < 60.0
    assert pool.limit(Idle(), 620.1) == 60.0
    assert pool.seen is None


def test_a_connection_that_is_gone_is_forgotten(pool: Pool[Idle]) -> None:
    connection = Idle()
    pool.keep(connection, 0.0)
    pool.discard(connection)
    pool.discard(connection)
    assert pool.idle == []
