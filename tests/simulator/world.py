"""One run: a net with a proxy, its clients and the servers behind it, all moved by one random generator."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from random import Random
from typing import Any

from kaserve.net.connection import Connection
from kaserve.proxy.connector import Address
from tests.proxy.upstream_side import FakeConnector, ProxyNet
from tests.simulator.actors import BehindConnection, Visitor
from tests.simulator.checks import Sent, check_client, check_servers, read_responses
from tests.simulator.network import OrderedWheel, SimulatedPoller, SimulatedSocket, new_pair
from tests.simulator.plan import ServerPlan, new_clients, new_server_plan
from tests.tools.net import HERE, PEER, Client

__all__ = ["run"]

_CAPACITIES = (1, 500, 5_000, 200_000)  # bytes under way
_MOVES = 400  # at most, before everybody falls silent
_FOR_EVER = 100_000.0  # seconds: longer than all deadlines together


class Faults(logging.Handler):
    """Keeps what is logged with a traceback: errors that nobody has foreseen."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            self.found.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


class Network:
    """The connections of a run.

    Attributes:
        poller: reports what is ready on the proxy's ends.
        ours: the proxy's ends.
    """

    def __init__(self, rng: Random) -> None:
        self.poller = SimulatedPoller()
        self.ours: list[SimulatedSocket] = []
        self._rng = rng
        self._numbers = itertools.count()

    def connect(self) -> tuple[Client, Any]:
        """Returns an actor's end of a new connection, and the proxy's."""
        capacities = self._rng.choice(_CAPACITIES), self._rng.choice(_CAPACITIES)
        theirs, ours = new_pair(self._numbers, capacities)
        self.poller.sockets[ours.fileno()] = ours
        self.ours.append(ours)
        end: Any = theirs
        return Client(end), ours


class SimulatedConnector(FakeConnector):
    """Connects to the servers of a run."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network

    def connect(self, address: Address) -> Any:
        theirs, ours = self._network.connect()
        self.peers.append(theirs)
        return ours

    def error_of(self, sock: Any) -> int:
        return 0


class World:
    """One run of one seed."""

    def __init__(self, seed: int, note: Callable[[str], object]) -> None:
        self._rng = rng = Random(seed)
        self._note = note
        urls = ["http://one"] if rng.random() < 0.7 else ["http://one", "http://two"]
        self._network = Network(rng)
        connector = SimulatedConnector(self._network)
        self.net = ProxyNet(
            *urls, proxy={"connections": rng.choice((0, 1, 8))}, connector=connector, poller=self._network.poller
        )  # fmt: skip
        self.net.reactor.wheel = OrderedWheel(self.net.clock.now)
        self.sent: dict[str, list[Sent]] = {}
        self.visitors: list[Visitor] = []
        for number, plan in enumerate(new_clients(rng)):
            end, ours = self._network.connect()
            Connection(self.net.service, ours, PEER, HERE)
            self.visitors.append(Visitor(number, plan, end, rng, note))
        self.behind: list[BehindConnection] = []
        self._order = itertools.count()
        self._is_draining = False
        self._calm = rng.choice((1, 12, 12, 40))

    def play(self) -> None:
        """Everybody moves at random, then nobody sends anything more, and time passes until everything is over."""
        rng = self._rng
        for _ in range(rng.randint(20, _MOVES)):
            self._move()
        self._note("silence")
        for _ in range(60):
            self._read_all()
            self.net.sleep(rng.choice((1.0, 30.0, 500.0)))
        self._read_all()
        self.net.sleep(_FOR_EVER)
        self._read_all()

    def _move(self) -> None:
        rng, net = self._rng, self.net
        choice = rng.random()
        if choice < 0.35:
            rng.choice(self.visitors).move()
        elif choice < 0.65:
            self._meet()
            if self.behind:
                rng.choice(self.behind).move()
        elif choice < 0.96:
            if net.busy:
                net.step()
        elif choice < 0.995:
            seconds = rng.choice((0.001, 0.5, 1.0, 5.0, 61.0, 125.0))
            self._note(f"{seconds} s pass")
            net.sleep(seconds)
        elif not self._is_draining and rng.random() < 0.3:
            self._note("the proxy drains")
            self._is_draining = net.service.draining = net.service.stopping = True
            net.service.keep_alive.enabled = False
            for connection in sorted(net.service.connections, key=lambda each: each.number):
                connection.drain()

    def _meet(self) -> None:
        """Makes actors of the connections that the proxy has opened since."""
        for end in self.net.peers[len(self.behind) :]:
            number = len(self.behind)
            self.behind.append(
                BehindConnection(
                    number, end, self._rng, self._new_plan, self.sent, self._order, self._note,
                )
            )  # fmt: skip

    def _new_plan(self, name: str, method: str) -> ServerPlan:
        return new_server_plan(self._rng, name, method, self._calm)

    def _read_all(self) -> None:
        """Everybody reads what there is, and says nothing."""
        while True:
            self._meet()
            self.net.settle()
            actors: list[Visitor | BehindConnection] = [*self.visitors, *self.behind]
            if not [each for each in actors if each.read(1 << 20)]:
                return

    def check(self) -> None:
        """Checks what everybody has seen, and that nothing is left."""
        for visitor in self.visitors:
            end = visitor.end
            requests = visitor.plan.requests
            in_order = end.ended and not end.was_reset
            received = read_responses(end.received, [each.method for each in requests], ended_in_order=in_order)
            check_client(
                requests, received, self.sent,
                has_ended=visitor.is_gone or end.ended, has_asked_all=visitor.has_asked_all,
            )  # fmt: skip
        plans = {each.name: each for visitor in self.visitors for each in visitor.plan.requests}
        check_servers(plans, [seen for each in self.behind for seen in each.seen])
        net = self.net
        assert not net.service.connections, "a client's connection is left"
        for upstream in net.proxy.upstreams:
            assert not upstream.active, "a connection to a server is in use"
            assert not upstream.pool.idle, "an idle connection to a server is left"
        assert not len(net.reactor.wheel), "a timer is left"
        assert all(sock.is_closed for sock in self._network.ours), "a descriptor is left"


def run(seed: int, note: Callable[[str], object] = lambda text: None) -> None:
    """Runs one seed.

    Args:
        seed: decides everything.
        note: is told what happens, a line each.

    Raises:
        AssertionError: a rule does not hold.
    """
    faults = Faults()
    log = logging.getLogger("kaserve")
    log.addHandler(faults)
    world = World(seed, note)
    try:
        world.play()
        world.check()
    finally:
        world.net.close()
        log.removeHandler(faults)
    assert not faults.found, f"a fault of kaserve: {faults.found[0]}"
