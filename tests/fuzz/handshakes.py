"""What is sent to a port that speaks TLS by somebody who does not mean to shake hands.

Most of it begins as the handshakes of honest clients do (RFC 8446 §4.1.2), since junk is refused at its first byte.
"""

from __future__ import annotations

from tests.fuzz.generate import Chance, named

__all__ = ["HANDSHAKES"]

_ALERT, _HANDSHAKE, _CONTENT = 21, 22, 23
_MOST = 16 * 1024  # bytes in a record
_GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def noise(chance: Chance) -> bytes:
    return chance.bytes(600)


def noise_in_records(chance: Chance) -> bytes:
    kinds = (_ALERT, _HANDSHAKE, _HANDSHAKE, _CONTENT, 20, 24, 200)
    return b"".join(_record(chance.pick(kinds), chance.bytes(300)) for _ in range(1 + chance.below(20)))


def part_of_a_hello(chance: Chance) -> bytes:
    hello = _hello(chance)
    return hello[: chance.below(len(hello))]


def mutated_hello(chance: Chance) -> bytes:
    hello = bytearray(_hello(chance))
    for _ in range(1 + chance.below(4)):
        hello[chance.below(len(hello))] = chance.below(256)
    return bytes(hello)


def hello_and_nothing_more(chance: Chance) -> bytes:
    return _hello(chance)


def hello_and_then(chance: Chance) -> bytes:
    """Something other than what would finish the handshake."""
    second = (_GET, _record(_CONTENT, _GET), _hello(chance), _record(_ALERT, b"\x02\x28"), chance.bytes(300))
    return _hello(chance) + chance.pick((*second, _record(_HANDSHAKE, b"\x14\x00\x00\x20" + bytes(32))))


def hello_in_crumbs(chance: Chance) -> bytes:
    """A byte in each record."""
    return b"".join(_record(_HANDSHAKE, bytes([byte])) for byte in _hello(chance)[5:])


def empty_records(chance: Chance) -> bytes:
    return _record(_HANDSHAKE, b"") * (1 + chance.below(chance.pick((3, 40, 3000))))


def endless_hello(chance: Chance) -> bytes:
    """One that says to be 16 MiB long, and sends some of them."""
    return b"".join(_record(_HANDSHAKE, b"\x01\xff\xff\xff" + bytes(_MOST - 4)) for _ in range(1 + chance.below(12)))


def alerts(chance: Chance) -> bytes:
    return _record(_ALERT, bytes([1 + chance.below(2), chance.below(120)])) * (1 + chance.below(50))


def heartbeat(chance: Chance) -> bytes:
    """Behind a hello: three bytes that say to be 16 KiB (CVE-2014-0160)."""
    return _hello(chance) + _record(24, b"\x01\x40\x00")


def old_versions(chance: Chance) -> bytes:
    """A hello of SSL 2.0, of SSL 3.0, or of TLS 1.0."""
    version = chance.pick((b"\x03\x00", b"\x03\x01"))
    sslv2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80\x03\x00\x80\x04\x00\x80\x05\x00\x80"
    return chance.pick((sslv2 + bytes(30), _record(_HANDSHAKE, _message(1, version + bytes(33) + _CIPHERS), version)))


def plain_http(chance: Chance) -> bytes:
    return chance.pick(
        (_GET, b"POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\n" + chance.bytes(9000), b"H", _GET * 500)
    )


_CIPHERS = b"\x00\x0a\x13\x01\x13\x02\x13\x03\xc0\x2b\xc0\x2f\x01\x00"  # those that are offered, and no compression


def _hello(chance: Chance) -> bytes:
    """A ClientHello for TLS 1.3 and 1.2, or 1.2 alone, with which an honest client could go on."""
    extensions = [
        _extension(0, _sized(b"\x00" + _sized(b"localhost"))),  # server_name
        _extension(10, _sized(b"\x00\x1d\x00\x17")),  # supported_groups: x25519, secp256r1
        _extension(11, b"\x01\x00"),  # ec_point_formats: uncompressed
        _extension(13, _sized(b"\x04\x03\x08\x04\x04\x01")),  # signature_algorithms
        _extension(16, _sized(b"\x08http/1.1")),  # application_layer_protocol_negotiation
    ]
    if not chance.one_in(4):
        extensions.append(_extension(43, b"\x04\x03\x04\x03\x03"))  # supported_versions
        extensions.append(_extension(51, _sized(b"\x00\x1d" + _sized(_random(chance)))))  # key_share
    body = b"\x03\x03" + _random(chance) + b"\x20" + _random(chance) + _CIPHERS
    return _record(_HANDSHAKE, _message(1, body + _sized(b"".join(extensions))))


def _random(chance: Chance) -> bytes:
    return bytes(chance.below(256) for _ in range(32))


def _record(kind: int, content: bytes, version: bytes = b"\x03\x01") -> bytes:
    return bytes([kind]) + version + _sized(content)


def _message(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3, "big") + content


def _extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + _sized(content)


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


HANDSHAKES = named(
    noise,
    noise_in_records,
    part_of_a_hello,
    mutated_hello,
    hello_and_nothing_more,
    hello_and_then,
    hello_in_crumbs,
    empty_records,
    endless_hello,
    alerts,
    heartbeat,
    old_versions,
    plain_http,
)
