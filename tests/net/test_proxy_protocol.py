"""The PROXY protocol: what its headers say, at once and byte by byte, and what is not a header."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve import Request, Response
from kaserve.http.address import Address, AnyAddress, UnixAddress
from kaserve.net.proxy_protocol import ProxyError, ProxyHeader, ProxyHeaderReader, read_proxy_header
from kaserve.net.reactor import Reactor
from kaserve.telemetry.endings import Ending
from tests.tools.net import HERE, PEER, FakeClock, open_descriptors
from tests.tools.server import PATIENCE, Client, Driven, connect, get, program, serving

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT, SERVER = Address("192.0.2.7", 4711), Address("198.51.100.1", 443)
BROADCAST = "255.255.255.255"
CLIENT6, SERVER6 = Address("2001:db8::7", 4711), Address("2001:db8::1", 443)
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"


def v2(family: int, block: bytes, command: int = 0x21, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


def ends(family: socket.AddressFamily, client: tuple[str, int], server: tuple[str, int]) -> bytes:
    hosts = b"".join(socket.inet_pton(family, host) for host, _ in (client, server))
    return hosts + struct.pack("!HH", client[1], server[1])


TCP4 = ends(socket.AF_INET, CLIENT, SERVER)
TCP6 = ends(socket.AF_INET6, CLIENT6, SERVER6)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")
TLVS = b"\x01\x00\x02h2" + b"\x02\x00\x0bexample.org" + b"\x20\x00\x05\x01\0\0\0\0"

VALID: list[tuple[bytes, AnyAddress | None, AnyAddress | None]] = [
    (V1, CLIENT, SERVER),
    (b"PROXY TCP6 2001:db8::7 2001:0DB8::1 4711 443\r\n", CLIENT6, SERVER6),
    (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n",
        Address("255.255.255.255", 65535),
        Address("255.255.255.255", 0),
    ),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None, None),  # 107 bytes: the longest line
    (b"PROXY UNKNOWN 1.2.3.4 anything \xff\r\n", None, None),
    (v2(0x11, TCP4), CLIENT, SERVER),
    (v2(0x11, TCP4 + TLVS), CLIENT, SERVER),
    (v2(0x21, TCP6), CLIENT6, SERVER6),
    (v2(0x21, TCP6 + b"x" * 4000), CLIENT6, SERVER6),
    (v2(0x31, UNIX), UnixAddress("/run/client"), UnixAddress("/run/server")),
    (v2(0x31, UNIX + TLVS), UnixAddress("/run/client"), UnixAddress("/run/server")),
    (v2(0x31, bytes(216)), UnixAddress(""), UnixAddress("")),
    (v2(0x31, (b"\0name").ljust(108, b"\0") + b"/" + b"p" * 107), UnixAddress("\0name"), UnixAddress("/" + "p" * 107)),
    (v2(0x00, b""), None, None),
    (v2(0x00, TLVS), None, None),
    (v2(0x12, TCP4), None, None),  # of datagrams: not the addresses of this connection
    (v2(0x00, b"", command=0x20), None, None),  # LOCAL: a connection of the proxy's own
    (v2(0x11, TCP4, command=0x20), None, None),
    (v2(0x11, b"", command=0x20), None, None),  # §2.2: its family is ignored,
    (v2(0xFF, b"more", command=0x20), None, None),  # an unknown one as well
]

INVALID = [
    b"G", get(), b"\x16\x03\x01", b"PROXX ", b"proxy TCP4", b" PROXY", b"PROXY\t", b"\r\nPROXY ",
    b"PROXY TCP4\r\n", b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
    b"PROXY UNKNOWNX\r\n", b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
    b"PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4  1\r\n",
    b"PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n", b"PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n",
    b"PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
    b"PROXY TCP4 ::1 ::1 1 1\r\n", b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", b"PROXY TCP6 [::1] [::1] 1 1\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n", b"PROXY UNKNOWN\n",
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", b"PROXY UNKNOWN " + b"f" * 200,
    SIGNATURE[:-1] + b"\r", v2(0x11, TCP4, command=0x11), v2(0x11, TCP4, command=0x31), v2(0x11, TCP4, command=0x22),
    v2(0x11, TCP4, command=0x2f), v2(0x13, TCP4), v2(0x41, TCP4), v2(0x01, TCP4), SIGNATURE + b"\x20\x00\xff\xff",
    v2(0x11, TCP4[:-1]), v2(0x11, b""), v2(0x21, TCP4), v2(0x31, UNIX[:-1]),
    v2(0x11, TCP4, length=0xFFFF), v2(0x00, b"", length=4081),
]  # fmt: skip


@pytest.mark.parametrize(("data", "client", "server"), VALID, ids=ascii)
class TestValidHeaders:
    def test_at_once_and_with_more_after_it(
        self, data: bytes, client: AnyAddress | None, server: AnyAddress | None
    ) -> None:
        assert read_proxy_header(data) == ProxyHeader(len(data), client, server)
        for more in (b"\r\n", b"\0", get(), V1, b"x" * 5000):
            assert read_proxy_header(data + more) == ProxyHeader(len(data), client, server)

    def test_byte_by_byte(self, data: bytes, client: AnyAddress | None, server: AnyAddress | None) -> None:
        assert [end for end in range(len(data)) if read_proxy_header(data[:end]) is not None] == []


@pytest.mark.parametrize("data", INVALID, ids=lambda data: ascii(data[:60]))
class TestInvalidHeaders:
    def test_at_once(self, data: bytes) -> None:
        with pytest.raises(ProxyError):
            read_proxy_header(data)

    def test_byte_by_byte(self, data: bytes) -> None:
        """No beginning of it is a header, and it is rejected when it is complete at the latest."""
        for end in range(len(data)):
            try:
                assert read_proxy_header(data[:end]) is None
            except ProxyError:
                return
        with pytest.raises(ProxyError):
            read_proxy_header(data)


@given(
    st.one_of(
        st.binary(max_size=300),
        *(st.binary(max_size=300).map(start.__add__) for start in (V1[:6], V1[:11], SIGNATURE, v2(0x11, b"")[:-2])),
    )
)
def test_any_bytes(data: bytes) -> None:
    """Bytes are a header, the beginning of one, or a ProxyError; and a header stays one, whatever follows."""
    try:
        header = read_proxy_header(data)
    except ProxyError:
        return
    if header is not None:
        assert 0 < header.size <= len(data)
        assert read_proxy_header(data[: header.size]) == header
    else:
        assert len(data) < 4096


class Harness:
    """A reader at one end of a socket pair."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.reactor = Reactor(self.clock)
        self.client, ours = socket.socketpair()
        ours.setblocking(False)
        self.ours = ours
        self.handed_over: list[tuple[AnyAddress, AnyAddress]] = []
        self.ended = 0
        self.failures: list[str] = []
        self.reader = ProxyHeaderReader(
            *(self.reactor, ours, PEER, HERE),
            timeout=30.0,
            on_header=self._on_header,
            on_end=self._on_end,
            on_failure=self._on_failure,
        )

    def _on_header(self, sock: socket.socket, client: AnyAddress, server: AnyAddress) -> None:
        assert sock is self.ours
        self.handed_over.append((client, server))

    def _on_end(self, reader: ProxyHeaderReader) -> None:
        assert reader is self.reader
        self.ended += 1

    def _on_failure(self, reader: ProxyHeaderReader, reason: str) -> None:
        assert reader is self.reader
        assert not self.ended
        self.failures.append(reason)

    def send(self, data: bytes) -> None:
        self.client.sendall(data)
        self.reactor.step()

    @property
    def is_closed(self) -> bool:
        return self.ended == 1 and self.ours.fileno() < 0


@pytest.fixture
def harness() -> Iterator[Harness]:
    before = open_descriptors()
    harness = Harness()
    yield harness
    assert harness.reactor.timeout() is None  # no timer is left
    harness.client.close()
    harness.ours.close()
    harness.reactor.close()
    assert open_descriptors() <= before


class TestReader:
    @pytest.mark.parametrize(("data", "client", "server"), VALID, ids=ascii)
    def test_the_header_alone_is_taken_from_the_socket(
        self, harness: Harness, data: bytes, client: Address, server: Address
    ) -> None:
        harness.send(data + get())
        assert harness.handed_over == [(PEER if client is None else client, HERE if server is None else server)]
        assert harness.ended == 1
        assert harness.ours.recv(1000) == get()

    @pytest.mark.parametrize("data", [V1, v2(0x11, TCP4 + TLVS)], ids=["v1", "v2"])
    def test_byte_by_byte(self, harness: Harness, data: bytes) -> None:
        for byte in data:
            assert harness.handed_over == []
            harness.send(bytes([byte]))
            harness.reactor.step()  # no byte is seen twice
        assert harness.handed_over == [(CLIENT, SERVER)]
        harness.client.sendall(b"x")
        assert harness.ours.recv(10) == b"x"

    @pytest.mark.parametrize("data", INVALID, ids=lambda data: ascii(data[:60]))
    def test_a_connection_without_a_header_is_closed(self, harness: Harness, data: bytes) -> None:
        harness.send(data)
        assert harness.is_closed
        assert harness.handed_over == []
        (reason,) = harness.failures
        assert reason

    def test_a_client_that_leaves(self, harness: Harness) -> None:
        harness.client.sendall(V1[:-3])
        harness.client.shutdown(socket.SHUT_WR)
        harness.reactor.step()
        harness.reactor.step()
        assert harness.is_closed
        assert harness.failures == ["the connection ended within the header"]

    def test_a_health_check_that_only_opens_a_port(self, harness: Harness) -> None:
        harness.client.shutdown(socket.SHUT_WR)
        harness.reactor.step()
        assert harness.is_closed
        assert harness.failures == [""]

    def test_a_client_that_says_nothing(self, harness: Harness) -> None:
        harness.send(V1[:-1])
        harness.clock.advance(29.5)
        harness.reactor.step()
        assert harness.failures == []
        harness.clock.advance(1.0)
        harness.reactor.step()
        assert harness.failures == ["the header did not arrive in time"]
        assert harness.ended == 1


# A server.


def who(request: Request) -> Response:
    return Response.json([request.client, request.server, request.scheme])


class TestServer:
    def test_the_request_shows_the_client_of_the_proxy(self) -> None:
        with serving(who, proxy_protocol=True) as server:
            with connect(server) as client:
                client.send(v2(0x11, TCP4) + get() + get())
                for _ in range(2):
                    assert client.answer().body == b'[["192.0.2.7",4711],["198.51.100.1",443],"http"]'
            assert server.stats.accepted == 1

    def test_a_connection_without_a_header_is_not_served(self) -> None:
        with serving(who, proxy_protocol=True) as server, connect(server) as client:
            client.send(get())
            try:
                assert client.rest() == b""
            except ConnectionResetError:  # the server closed without reading the request
                pass
            assert server.stats.requests == 0

    def test_connections_without_a_header_are_counted_and_logged_once_a_minute(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A client that does not come through the proxy was reset, and nothing told the operator why."""
        with Driven(who, proxy_protocol=True) as driven:
            for _ in range(3):
                driven.connect_early().send(get())
                driven.settle()
            driven.pass_time(60.0)
            driven.connect_early().send(b"\x16\x03\x01\x00")  # a TLS handshake
            driven.settle()
            silent = driven.connect_early()
            silent.close()
            driven.settle()
            stats = driven.server.stats
            assert stats.closed == {Ending.PROXY_HEADER: 4, Ending.CLIENT: 1}
            assert (stats.accepted, stats.unused, driven.server.open_connections) == (5, 5, 0)
        assert [record.getMessage() for record in caplog.records] == [
            "a connection from 127.0.0.1 did not begin with a PROXY header (no PROXY header)",
            "a connection from 127.0.0.1 did not begin with a PROXY header (no PROXY header); "
            "2 more since the last line like this",
        ]

    def test_without_the_setting_a_header_is_a_bad_request(self) -> None:
        with serving(who) as server, connect(server) as client:
            client.send(V1 + get())
            assert client.answer().status == 400

    def test_a_header_must_arrive_within_the_header_timeout(self) -> None:
        with (
            Driven(who, proxy_protocol=True, header_timeout=30.0) as driven,
            connect(driven.server, driven.turn) as client,
        ):
            driven.settle()
            driven.pass_time(29.0)
            assert client.is_quiet
            driven.pass_time(2.0)
            assert client.is_closed

    def test_a_header_that_is_here_at_the_deadline_is_read(self) -> None:
        """It may have arrived while this process was stopped."""
        with (
            Driven(who, proxy_protocol=True, header_timeout=30.0) as driven,
            connect(driven.server, driven.turn) as client,
        ):
            driven.settle()
            driven.clock.advance(1000.0)
            driven.server._service.reactor.call(lambda: client.send(V1 + get()))
            assert client.answer().status == 200

    def test_it_counts_as_a_connection(self) -> None:
        with (
            Driven(who, proxy_protocol=True, max_connections=1) as driven,
            connect(driven.server, driven.turn) as one,
            connect(driven.server, driven.turn) as two,
        ):
            two.send(V1 + get())
            driven.settle()
            assert two.is_quiet
            one.send(V1 + get())
            assert one.answer().status == 200
            assert two.is_quiet
            one.close()
            assert two.answer().status == 200

    def test_a_draining_server_waits_a_moment_for_headers(self) -> None:
        with (
            Driven(who, proxy_protocol=True) as driven,
            connect(driven.server, driven.turn) as silent,
            connect(driven.server, driven.turn) as late,
        ):
            driven.settle()
            driven.server.shutdown()
            driven.settle()
            late.send(V1 + get())
            answer = late.answer()
            assert (answer.status, answer.persists) == (200, False)
            late.close()
            driven.pass_time(2.0)
            assert silent.is_closed
            assert driven.server.stopped

    def test_tls_begins_after_the_header(self, tmp_path: Path) -> None:
        make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout key -out cert"
        subprocess.run([program("openssl"), *make.split()], cwd=tmp_path, check=True, capture_output=True)
        context = ssl.create_default_context(cafile=str(tmp_path / "cert"))
        context.check_hostname = False
        files = {"tls_cert": str(tmp_path / "cert"), "tls_key": str(tmp_path / "key")}
        with serving(who, proxy_protocol=True, **files) as server:
            assert isinstance(server.address, tuple)
            for header in (V1, v2(0x11, TCP4 + TLVS)):
                plain = socket.create_connection(server.address, timeout=PATIENCE)
                plain.sendall(header)
                with context.wrap_socket(plain) as sock:
                    client = Client(sock)
                    for _ in range(2):
                        client.send(get())
                        assert client.answer().body == b'[["192.0.2.7",4711],["198.51.100.1",443],"https"]'

    def test_close_closes_connections_that_wait_for_a_header(self) -> None:
        before = open_descriptors()
        with Driven(who, proxy_protocol=True) as driven, connect(driven.server, driven.turn):
            driven.settle()
            driven.server.close()
        assert open_descriptors() <= before
