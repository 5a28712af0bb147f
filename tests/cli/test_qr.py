"""QR codes: the address that they contain, and the characters that a terminal needs."""

from __future__ import annotations

import pytest

from kaserve.cli import qr
from kaserve.http.address import Address, AnyAddress, UnixAddress
from tests.tools.server import Process


@pytest.mark.parametrize(
    ("addresses", "url"),
    [
        ([Address("127.0.0.1", 80)], None),
        ([Address("::1", 80), UnixAddress("/run/socket")], None),
        ([Address("localhost", 80)], None),
        ([], None),
        ([Address("192.0.2.7", 8000)], "http://192.0.2.7:8000/"),
        (
            [Address("127.0.0.1", 80), Address("2001:db8::7", 8000), Address("192.0.2.7", 80)],
            "http://[2001:db8::7]:8000/",
        ),
        ([Address("0.0.0.0", 8000)], "http://192.0.2.9:8000/"),
        ([Address("::", 8000)], "http://[2001:db8::9]:8000/"),
    ],
)
def test_the_address_for_others(addresses: list[AnyAddress], url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"192.0.2.1": "192.0.2.9", "2001:db8::1": "2001:db8::9"}
    monkeypatch.setattr(qr, "_own_address", lambda family, there: own[there])
    assert qr.url_for_others("http", addresses) == url


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("socket.socket.connect", no_network)
    assert qr.url_for_others("http", [Address("0.0.0.0", 8000)]) is None


def test_a_code() -> None:
    pytest.importorskip("segno")
    url = "http://192.0.2.7:8000/"
    blocks, plain = qr.draw(url, "utf-8"), qr.draw(url, "ascii")
    assert "\u2584" in blocks
    assert plain.isascii()
    assert len(plain.splitlines()) > len(blocks.splitlines()) > 10
    assert qr.draw(url, "no such encoding") == plain


def test_no_code_for_a_loopback_address() -> None:
    pytest.importorskip("segno")
    with Process("0", "--qr") as process:
        assert "  no QR code: no other machine can reach this address" in process.banner
