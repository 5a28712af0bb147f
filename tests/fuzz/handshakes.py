"""Input for a TLS port from clients that do not want to complete a handshake.

Most of it begins like the handshake of an honest client (RFC 8446 §4.1.2), since junk is rejected at its first byte.
"""

from __future__ import annotations

from tests.fuzz.generate import Rng, named

__all__ = ["HANDSHAKES"]

_ALERT, _HANDSHAKE, _CONTENT = 21, 22, 23
_MAX_RECORD = 16 * 1024  # bytes
_GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def noise(rng: Rng) -> bytes:
    return rng.bytes(600)


def noise_in_records(rng: Rng) -> bytes:
    kinds = (_ALERT, _HANDSHAKE, _HANDSHAKE, _CONTENT, 20, 24, 200)
    return b"".join(_record(rng.pick(kinds), rng.bytes(300)) for _ in range(1 + rng.below(20)))


def part_of_a_hello(rng: Rng) -> bytes:
    hello = _hello(rng)
    return hello[: rng.below(len(hello))]


def mutated_hello(rng: Rng) -> bytes:
    hello = bytearray(_hello(rng))
    for _ in range(1 + rng.below(4)):
        hello[rng.below(len(hello))] = rng.below(256)
    return bytes(hello)


def hello_and_nothing_more(rng: Rng) -> bytes:
    return _hello(rng)


def hello_and_then(rng: Rng) -> bytes:
    """A hello, and then something that does not complete the handshake."""
    second = (_GET, _record(_CONTENT, _GET), _hello(rng), _record(_ALERT, b"\x02\x28"), rng.bytes(300))
    return _hello(rng) + rng.pick((*second, _record(_HANDSHAKE, b"\x14\x00\x00\x20" + bytes(32))))


def hello_in_crumbs(rng: Rng) -> bytes:
    """A hello with one byte in each record."""
    return b"".join(_record(_HANDSHAKE, bytes([byte])) for byte in _hello(rng)[5:])


def empty_records(rng: Rng) -> bytes:
    return _record(_HANDSHAKE, b"") * (1 + rng.below(rng.pick((3, 40, 3000))))


def endless_hello(rng: Rng) -> bytes:
    """A hello that announces 16 MiB, and the beginning of them."""
    return b"".join(_record(_HANDSHAKE, b"\x01\xff\xff\xff" + bytes(_MAX_RECORD - 4)) for _ in range(1 + rng.below(12)))


def alerts(rng: Rng) -> bytes:
    return _record(_ALERT, bytes([1 + rng.below(2), rng.below(120)])) * (1 + rng.below(50))


def heartbeat(rng: Rng) -> bytes:
    """A hello, and then three bytes that announce 16 KiB (CVE-2014-0160)."""
    return _hello(rng) + _record(24, b"\x01\x40\x00")


def old_versions(rng: Rng) -> bytes:
    """A hello of SSL 2.0, of SSL 3.0, or of TLS 1.0."""
    version = rng.pick((b"\x03\x00", b"\x03\x01"))
    sslv2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80\x03\x00\x80\x04\x00\x80\x05\x00\x80"
    return rng.pick((sslv2 + bytes(30), _record(_HANDSHAKE, _message(1, version + bytes(33) + _CIPHERS), version)))


def plain_http(rng: Rng) -> bytes:
    return rng.pick((_GET, b"POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\n" + rng.bytes(9000), b"H", _GET * 500))


_CIPHERS = b"\x00\x0a\x13\x01\x13\x02\x13\x03\xc0\x2b\xc0\x2f\x01\x00"  # the offered cipher suites, and no compression


def _hello(rng: Rng) -> bytes:
    """Returns a valid ClientHello for TLS 1.3 and 1.2, or for 1.2 alone."""
    extensions = [
        _extension(0, _sized(b"\x00" + _sized(b"localhost"))),  # server_name
        _extension(10, _sized(b"\x00\x1d\x00\x17")),  # supported_groups: x25519, secp256r1
        _extension(11, b"\x01\x00"),  # ec_point_formats: uncompressed
        _extension(13, _sized(b"\x04\x03\x08\x04\x04\x01")),  # signature_algorithms
        _extension(16, _sized(b"\x08http/1.1")),  # application_layer_protocol_negotiation
    ]
    if not rng.one_in(4):
        extensions.append(_extension(43, b"\x04\x03\x04\x03\x03"))  # supported_versions
        extensions.append(_extension(51, _sized(b"\x00\x1d" + _sized(_random(rng)))))  # key_share
    body = b"\x03\x03" + _random(rng) + b"\x20" + _random(rng) + _CIPHERS
    return _record(_HANDSHAKE, _message(1, body + _sized(b"".join(extensions))))


def _random(rng: Rng) -> bytes:
    return bytes(rng.below(256) for _ in range(32))


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
