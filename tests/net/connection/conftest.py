"""The fixture that most tests of a connection start with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kaserve.http.handler import Handler
from tests.tools.connections import MakeNet
from tests.tools.net import Net, hello, open_descriptors


@pytest.fixture
def make_net(caplog: pytest.LogCaptureFixture) -> Iterator[MakeNet]:
    """Makes nets and closes them. Fails a test that leaks a descriptor or logs what `logged_errors` does not expect."""
    before = open_descriptors()
    nets: list[Net] = []

    def make_net(handler: Handler = hello, **settings: Any) -> Net:
        net = Net(handler, **settings)
        nets.append(net)
        return net

    yield make_net
    for net in nets:
        net.close()
        assert not net.service.connections
        assert len(net.reactor.wheel) == 0
    assert open_descriptors() <= before
    assert [record.getMessage() for record in caplog.get_records("call")] == []
