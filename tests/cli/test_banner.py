"""The banner: a line for each thing that matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kaserve import Server
from kaserve.asgi.websocket.settings import MISSING
from kaserve.cli.banner import banner
from kaserve.cli.load import Loaded, load
from kaserve.effects import Runner, Served, Way
from tests.tools.server import config, hello
from tests.tools.tls import make_certificate

HANDLER = Loaded(hello, Way(Runner.PROGRAM, Served.HANDLER), "shop:hello")


ASGI = Loaded(hello, Way(Runner.PROGRAM, Served.ASGI), "shop:app")


def lines(loaded: Loaded = HANDLER, **settings: Any) -> list[str]:
    server = Server(hello, config(**settings))
    server.open()
    try:
        return [line.replace(server.url, "URL/") for line in banner(server, loaded).splitlines()]
    finally:
        server.close()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an address in a network, wherever the tests run."""
    monkeypatch.setattr("kaserve.cli.qr._own_address", lambda family, outside: "192.168.1.5")


def test_on_this_machine_alone(network: None) -> None:
    assert [line.split(":")[0] for line in lines()[1:]] == ["  at URL/", "  keep-alive", "  Ctrl-C stops it"]


def test_what_is_passed_on() -> None:
    found = lines(proxy=("/api=http://one:9000", "/api=http://two", "/old=unix:/run/app.sock:/v1"))
    passed = ["  passes /api on to http://one:9000, http://two", "  passes /old on to unix:/run/app.sock:/v1"]
    assert found[2:4] == passed


def test_a_proxy_of_everything() -> None:
    made = config(proxy=("http://one:9000", "/old=http://two"))
    loaded = load(made)
    server = Server(loaded.handler, made, way=loaded.way)
    server.open()
    try:
        found = banner(server, loaded).splitlines()
    finally:
        server.close()
    assert found[0].endswith(") passes requests on to http://one:9000")
    assert found[2] == "  passes /old on to http://two"


def test_on_all_addresses(network: None) -> None:
    found = lines(bind="0.0.0.0")
    assert found[1] == "  at URL/"
    assert found[2].startswith("  in the network: http://192.168.1.5:")


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaserve.cli.qr._own_address", lambda family, outside: None)
    assert not [line for line in lines(bind="0.0.0.0") if "network" in line]


def test_certificates_and_logs(tmp_path: Path, network: None) -> None:
    certificate = make_certificate(tmp_path, "site", "localhost")
    files: dict[str, Any] = {"access_log": True, "access_log_file": str(tmp_path / "a.log")}
    found = lines(tls_cert=certificate.cert, tls_key=certificate.key, bind="0.0.0.0", **files)
    assert f"  TLS: {certificate.cert}" in found
    assert f"  access log: {tmp_path}/a.log" in found
    assert found[2].startswith("  in the network: https://192.168.1.5:")
    found = lines(tls_cert=certificate.cert, tls_key=certificate.key, tls_ca=certificate.cert)
    assert f"  TLS: {certificate.cert}, requires client certificates of {certificate.cert}" in found


@pytest.mark.parametrize("loaded", [HANDLER, ASGI])
@pytest.mark.parametrize("available", [True, False])
def test_websockets_that_are_not_available(
    available: bool, loaded: Loaded, network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaserve.cli.banner.is_available", lambda: available)
    assert (f"  {MISSING}" in lines(loaded)) is (loaded is ASGI and not available)
