"""Peers: what is remembered of the hosts that connect, and of how many."""

from __future__ import annotations

from kaserve.telemetry.peers import Peers


def test_a_peer_is_remembered() -> None:
    peers = Peers()
    peers.of("10.0.0.5").connections += 2
    assert peers.of("10.0.0.5").connections == 2
    assert [peer.host for peer in peers.by_connections()] == ["10.0.0.5"]


def test_a_scan_does_not_push_out_a_proxy() -> None:
    peers = Peers()
    for number in range(1000):
        peers.of("proxy").connections += 1
        peers.of(f"10.0.{number // 250}.{number % 250}").connections += 1
    kept = peers.by_connections()
    assert kept[0].host == "proxy"
    assert kept[0].connections == 1000
    assert len(kept) == 64


def test_only_the_last_idle_times_are_kept() -> None:
    peer = Peers().of("h")
    peer.idle_times.extend(range(100))
    assert list(peer.idle_times) == list(range(84, 100))
