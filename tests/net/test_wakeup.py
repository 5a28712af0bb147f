"""Wakeup: a descriptor that is readable after `wake`, and not after `ready`."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from kaserve.net.poller import READ
from kaserve.net.wakeup import Wakeup
from tests.tools.net import open_descriptors


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    before = open_descriptors()
    wakeup = Wakeup()
    yield wakeup
    wakeup.close()
    assert open_descriptors() <= before


def is_readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup.fileno()], [], [], 0)[0])


def test_it_is_readable_from_wake_to_ready(wakeup: Wakeup) -> None:
    assert not is_readable(wakeup)
    for _ in range(3):
        wakeup.wake()
        assert is_readable(wakeup)
        wakeup.ready(READ)
        assert not is_readable(wakeup)


def test_a_byte_from_a_signal_makes_it_readable(wakeup: Wakeup) -> None:
    os.write(wakeup.signal_fileno(), b"\x0f")
    assert is_readable(wakeup)
    wakeup.ready(READ)
    assert not is_readable(wakeup)


def test_many_calls_of_wake_send_one_byte(wakeup: Wakeup) -> None:
    for _ in range(1000):
        wakeup.wake()
    assert len(wakeup._receiver.recv(100)) == 1


def test_ready_without_wake_does_not_block(wakeup: Wakeup) -> None:
    wakeup.ready(READ)
    wakeup.wake()
    assert is_readable(wakeup)


def test_wake_after_close_does_nothing(wakeup: Wakeup) -> None:
    wakeup.close()
    wakeup.wake()
