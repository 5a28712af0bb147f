"""TLS, with real handshakes over socket pairs and a fake clock. The certificates are made by the tests."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kaserve.http.messages import Request, Response
from kaserve.http.phases import CLOSED, HANDSHAKE, IDLE, LINGER, SEND
from kaserve.net.certificate import host_names
from kaserve.net.poller import READ, WRITE
from kaserve.net.tls import TLS, TLSSocket
from tests.tools.connections import WHEEL_DELAY, send_during_turn
from tests.tools.net import GET, LAST_GET, Body, Net, Router, file_span, get, hello, open_descriptors, post
from tests.tools.server import PATIENCE, Client, Driven, Process, SocketAddress, connect, program, serving, wait_for
from tests.tools.tls import Certificate, TLSClient, client_context, make_certificate
from tests.tools.wire import read_answers

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CONTENT = bytes(range(256)) * 4096  # 1 MiB

both_versions = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])


class Certificates:
    """The certificates that most tests share."""

    def __init__(self, directory: Path) -> None:
        self.first = make_certificate(directory, "first", "first.example")
        self.second = make_certificate(directory, "second", "second.example", "*.second.example")
        self.nobody = make_certificate(directory, "nobody")
        self.authority = make_certificate(directory, "authority", "authority.example")
        self.ann = make_certificate(directory, "ann", issuer=self.authority)
        self.stranger = make_certificate(directory, "stranger")
        self.locked = make_certificate(directory, "locked", "locked.example", password="open sesame")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls(certificates: Certificates) -> TLS:
    return TLS([certificates.first])


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    yield net
    net.close()


@pytest.fixture
def router() -> Router:
    return Router()


@pytest.fixture
def routed(router: Router) -> Iterator[Net]:
    net = Net(router)
    yield net
    net.close()


# Requests and responses.


@both_versions
def test_requests(net: Net, tls: TLS, version: ssl.TLSVersion) -> None:
    client = TLSClient(net, tls, client_context(version)).handshake()
    assert client.tls.selected_alpn_protocol() == "http/1.1"
    for _ in range(3):
        (answer,) = client.ask(GET)
        assert (answer.status, answer.body, answer.persists) == (200, b"hello", True)
    assert client.connection.phase == IDLE
    assert net.stats.accepted == 1


def test_a_version_that_is_too_old(net: Net, tls: TLS) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = client_context(ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="alert protocol version"):
        TLSClient(net, tls, context).handshake()


@both_versions
def test_records_byte_by_byte(net: Net, tls: TLS, version: ssl.TLSVersion) -> None:
    client = TLSClient(net, tls, client_context(version)).handshake()
    for byte in client.encrypt(GET):
        assert client.connection.phase == IDLE
        assert net.interest(client.connection) == READ
        client.send_raw(bytes([byte]))
    client.read()
    assert [answer.status for answer in read_answers(client.received, ["GET"])] == [200]


def test_requests_byte_by_byte(net: Net, tls: TLS) -> None:
    client = TLSClient(net, tls).handshake()
    client.send_raw(b"".join(client.encrypt(bytes([byte])) for byte in GET))
    client.read()
    assert [answer.status for answer in read_answers(client.received, ["GET"])] == [200]


def test_a_record_full_of_requests(routed: Net, tls: TLS, router: Router) -> None:
    """More requests than the connection serves in one turn: no poller would report the rest of the record."""
    requests = [get(f"/{number}") for number in range(400)]
    wire = b"".join(requests)
    assert len(wire) < 16384
    answers = TLSClient(routed, tls).handshake().ask(*requests)
    assert [answer.status for answer in answers] == [200] * 400
    assert [request.target for request in router.requests] == [f"/{number}" for number in range(400)]


@pytest.mark.parametrize("size", [1, 100, 16384, 32768])
def test_a_record_is_received_as_a_whole(tls: TLS, size: int) -> None:
    """Whatever size is asked for: no decrypted bytes stay in the socket."""
    with Pair(tls) as pair:
        pair.client.sendall(CONTENT[:16384])
        assert pair.server.recv(size) == CONTENT[:16384]
        assert pair.server._sock.pending() == 0
        with pytest.raises(BlockingIOError):
            pair.server.recv(size)


@both_versions
def test_bodies(routed: Net, tls: TLS, router: Router, version: ssl.TLSVersion) -> None:
    router.answers["echo"] = lambda request: Response(200, request.body.read())
    client = TLSClient(routed, tls, client_context(version)).handshake()
    (answer,) = client.ask(post(CONTENT, path="/echo"))
    assert answer.body == CONTENT
    assert client.connection.phase == IDLE


def test_responses_of_every_kind_to_a_slow_reader(routed: Net, tls: TLS, router: Router) -> None:
    """When the kernel takes a part of a record, the rest is sent next, and the record is not sent again."""
    router.answers["bytes"] = lambda request: Response(200, CONTENT)
    router.answers["file"] = lambda request: Response(200, file_span(CONTENT, 7, 1_000_001))
    router.answers["pieces"] = lambda request: Response(200, Body([CONTENT[:100_001], file_span(CONTENT), b"end"]))
    client = TLSClient(routed, tls, send_buffer=4608).handshake()
    client.write(get("/bytes") + get("/file") + get("/pieces"))
    while client.connection.phase == SEND:
        assert routed.interest(client.connection) == WRITE
        client.feed(3001)
        routed.settle()
        try:
            client.received += client.tls.read(65536)
        except ssl.SSLWantReadError:
            pass
    client.read()
    answers = read_answers(client.received, ["GET"] * 3)
    assert [answer.body for answer in answers] == [
        CONTENT,
        CONTENT[7:1_000_008],
        CONTENT[:100_001] + CONTENT + b"end",
    ]


def test_send_reports_what_was_taken_record_by_record(tls: TLS) -> None:
    """Given a megabyte at once, OpenSSL would keep how far it came, and report nothing."""
    with Pair(tls) as pair:
        taken = pair.server.send(CONTENT)
        assert 0 < taken < len(CONTENT)
        assert taken % 16384 == 0
        with pytest.raises(BlockingIOError):
            pair.server.send(CONTENT[taken:])


def test_a_fast_reader_does_not_keep_others_waiting(tls: TLS) -> None:
    with Pair(tls) as pair:
        Sink(pair.server)
        assert pair.server.send(CONTENT) == len(CONTENT) // 2
        span = file_span(CONTENT)
        assert pair.server.sendfile(span.fd, 0, span.length) == len(CONTENT) // 2
        span.close()


def test_a_file_that_ends_too_early(tls: TLS) -> None:
    with Pair(tls) as pair:
        span = file_span(CONTENT[:1000])
        assert pair.server.sendfile(span.fd, 900, 5000) == 100
        assert pair.server.sendfile(span.fd, 1000, 5000) == 0
        assert pair.client.recv(200) == CONTENT[900:1000]
        span.close()


# Handshakes.


def test_the_deadline_of_a_handshake_is_from_its_beginning(net: Net, tls: TLS) -> None:
    """Single bytes do not extend it."""
    client = TLSClient(net, tls)
    for byte in client.hello()[:29]:
        assert client.connection.phase == HANDSHAKE
        client.send_raw(bytes([byte]))
        net.sleep(1.0)
    net.sleep(2.0)
    assert client.connection.phase == CLOSED
    assert net.stats.closed == {"handshake": 1}
    assert net.stats.requests == 0


@both_versions
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_handshake_that_begins_at_its_deadline(net: Net, tls: TLS, version: ssl.TLSVersion, goes_on: bool) -> None:
    """The client has sent its first message while this process was stopped (SIGSTOP): the poller then sees only that
    time has passed. TLS needs another round trip, for which there is a second, once."""
    client = TLSClient(net, tls, client_context(version))
    net.settle()
    net.clock.advance(31)
    send_during_turn(net, client.raw, client.hello())
    net.settle()
    assert client.connection.phase == HANDSHAKE
    assert net.time_left(client.connection) == 1.0
    if goes_on:
        client.feed()
        assert client.handshake().ask(GET)[0].status == 200
    else:
        net.sleep(1.0 + WHEEL_DELAY)
        assert client.connection.phase == CLOSED
        assert net.stats.closed == {"handshake": 1}


def test_a_handshake_that_must_wait_to_send(net: Net, certificates: Certificates, tmp_path: Path) -> None:
    """The chain of certificates does not fit into the send buffer; the client waits for the rest of it."""
    chain = tmp_path / "chain.pem"
    chain.write_text(Path(certificates.first.cert).read_text() * 40)
    tls = TLS([(str(chain), certificates.first.key)])
    client = TLSClient(net, tls, send_buffer=4608)
    client.send_raw(client.hello())
    assert client.connection.phase == HANDSHAKE
    assert net.interest(client.connection) == WRITE
    client.feed()
    assert client.handshake().ask(GET)[0].status == 200
    assert net.interest(client.connection) == READ


@both_versions
@pytest.mark.parametrize("part", [0, 1, 100])
def test_a_client_that_leaves_within_the_handshake(net: Net, tls: TLS, version: ssl.TLSVersion, part: int) -> None:
    before = open_descriptors()
    client = TLSClient(net, tls, client_context(version), tcp=True)
    client.send_raw(client.hello()[:part])
    client.raw.finish()
    net.settle()
    client.raw.read()
    client.raw.close()
    net.settle()
    assert client.connection.phase == CLOSED
    assert net.stats.closed == {"handshake": 1}
    assert open_descriptors() <= before


def test_a_client_that_disappears_within_the_handshake(net: Net, tls: TLS) -> None:
    client = TLSClient(net, tls, tcp=True)
    client.send_raw(client.hello()[:100])
    client.raw.reset()
    net.settle()
    assert client.connection.phase == CLOSED


@pytest.mark.parametrize(
    "junk", [b"\x00", b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01\x00\x02", b"\r\nGET", b"\xff" * 99]
)
def test_junk(net: Net, tls: TLS, junk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that can never become a handshake are rejected before the deadline, as soon as OpenSSL knows."""
    client = TLSClient(net, tls, tcp=True)
    client.send_raw(junk)
    client.raw.finish()
    net.settle()
    client.raw.read()
    assert client.raw.ended
    assert not client.raw.was_reset
    client.raw.close()
    net.settle()
    assert client.connection.phase == CLOSED
    assert net.stats.closed == {"handshake": 1}
    assert caplog.records == []


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "M-SEARCH", "x"])
def test_plain_http_gets_a_response(net: Net, tls: TLS, method: str) -> None:
    client = TLSClient(net, tls, tcp=True)
    client.send_raw(f"{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n".encode())
    (answer,) = client.raw.answers(method)
    assert answer.status == 400
    assert b"TLS" in answer.body
    assert not answer.persists
    assert client.connection.phase == LINGER
    client.send_raw(b"a body that comes late, which must not destroy the answer")
    assert not client.raw.was_reset
    client.raw.close()
    net.settle()
    assert net.stats.closed == {"refused": 1}
    assert net.stats.refused == {400: 1}


def test_plain_http_is_recognised_by_its_first_byte(net: Net, tls: TLS) -> None:
    client = TLSClient(net, tls)
    client.send_raw(b"H")
    (answer,) = client.raw.answers("GET")  # which may become HEAD, or not
    assert answer.status == 400


def test_plain_http_head(net: Net, tls: TLS) -> None:
    client = TLSClient(net, tls)
    client.send_raw(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    (answer,) = client.raw.answers("HEAD")
    assert (answer.status, answer.body) == (400, b"")


# Names.


def certificate_for(net: Net, tls: TLS, name: str | None, version: ssl.TLSVersion = TLS_1_3) -> bytes | None:
    client = TLSClient(net, tls, client_context(version), name=name).handshake()
    assert client.tls.selected_alpn_protocol() == "http/1.1"
    assert client.ask(GET)[0].status == 200
    return client.tls.getpeercert(binary_form=True)


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(certificate.cert).read_text())


@both_versions
@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("first.example", False),
        ("second.example", True),
        ("SECOND.Example", True),
        ("www.second.example", True),
        ("a.b.second.example", False),
        ("example", False),
        ("*.second.example", True),
        ("unknown.example", False),
        (None, False),
    ],
)
def test_the_certificate_is_chosen_by_name(
    net: Net, certificates: Certificates, version: ssl.TLSVersion, name: str | None, second: bool
) -> None:
    tls = TLS([certificates.first, certificates.second])
    expected = certificates.second if second else certificates.first
    assert certificate_for(net, tls, name, version) == der(expected)


def test_the_first_certificate_for_a_name_is_used(net: Net, certificates: Certificates, tmp_path: Path) -> None:
    again = make_certificate(tmp_path, "again", "first.example", "second.example", "third.example")
    tls = TLS([certificates.first, certificates.second, again])
    assert certificate_for(net, tls, "first.example") == der(certificates.first)
    assert certificate_for(net, tls, "second.example") == der(certificates.second)
    assert certificate_for(net, tls, "third.example") == der(again)


def test_the_first_certificate_needs_no_name(net: Net, certificates: Certificates) -> None:
    tls = TLS([certificates.nobody, certificates.second])
    assert certificate_for(net, tls, "first.example") == der(certificates.nobody)
    assert certificate_for(net, tls, "second.example") == der(certificates.second)


def test_host_names(certificates: Certificates) -> None:
    second = Path(certificates.second.cert).read_text()
    assert host_names(second) == ["second.example", "*.second.example"]
    assert host_names(Path(certificates.nobody.cert).read_text()) == []
    key = Path(certificates.first.key).read_text()
    assert host_names(key + second + Path(certificates.first.cert).read_text()) == host_names(second), "a chain"


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 50, 200, -1])
def test_host_names_of_malformed_certificates(certificates: Certificates, length: int) -> None:
    pem = ssl.DER_cert_to_PEM_cert(der(certificates.second)[:length])
    with pytest.raises(ValueError, match=r"malformed|there is no certificate"):
        host_names(pem)
    with pytest.raises(ValueError, match="there is no certificate"):
        host_names("certainly not")


# Files that cannot be used.


class TestFiles:
    @staticmethod
    def error_text(*certificates: tuple[str, str | None], **more: Any) -> str:
        with pytest.raises(OSError, match=r"cannot use|cannot read|no host name") as caught:
            TLS(certificates, **more)
        message = caught.value.strerror or str(caught.value)
        assert "_ssl.c" not in message
        assert "\n" not in message
        return message

    def test_missing(self, certificates: Certificates) -> None:
        first = certificates.first
        assert self.error_text(("x.pem", None)) == "cannot use the certificate x.pem: No such file or directory"
        key = self.error_text((first.cert, "x.key"))
        assert key == f"cannot use the key x.key of the certificate {first.cert}: No such file or directory"
        assert self.error_text(first, ca="x.pem") == "cannot use the certificates in x.pem: No such file or directory"
        password = self.error_text(first, password_file="x")
        assert password == "cannot read the password in x: No such file or directory"

    def test_of_another_key(self, certificates: Certificates) -> None:
        assert self.error_text((certificates.first.cert, certificates.second.key)).endswith("key values mismatch")

    def test_without_a_key(self, certificates: Certificates) -> None:
        """The message says what is missing; it said that the file was not in PEM, or the password wrong."""
        cert = certificates.first.cert
        assert self.error_text((cert, None)) == (
            f"cannot use the certificate {cert}: there is no private key in it; "
            "give the file that has it with --tls-key (tls_key)"
        )
        assert self.error_text((cert, cert)) == (
            f"cannot use the key {cert} of the certificate {cert}: there is no private key in it"
        )
        key = certificates.first.key
        assert self.error_text((key or "", None)) == (
            f"cannot use the certificate {key}: there is no certificate in PEM in this file"
        )

    def test_that_are_not_certificates(self, certificates: Certificates, tmp_path: Path) -> None:
        file = tmp_path / "junk"
        file.write_bytes(b"\xff\x00junk")
        assert self.error_text((str(file), None)).startswith(f"cannot use the certificate {file}: ")
        assert self.error_text((certificates.first.cert, str(file))).startswith(f"cannot use the key {file} ")
        assert self.error_text(certificates.first, ca=str(file)).startswith(f"cannot use the certificates in {file}: ")
        assert self.error_text(certificates.first, password_file=str(file)).endswith("it is not text in UTF-8")

    def test_without_a_host_name(self, certificates: Certificates) -> None:
        assert "has no host name" in self.error_text(certificates.first, certificates.nobody)

    def test_with_a_password(self, net: Net, certificates: Certificates, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("open sesame\n")
        tls = TLS([certificates.locked, certificates.second], password_file=str(file))
        assert certificate_for(net, tls, "locked.example") == der(certificates.locked)
        assert certificate_for(net, tls, "second.example") == der(certificates.second), "its key has no password"

    @pytest.mark.parametrize("password", [None, "", "open, please"])
    def test_without_its_password(self, certificates: Certificates, tmp_path: Path, password: str | None) -> None:
        """OpenSSL does not ask for it on the terminal either, which would block."""
        file = tmp_path / "password"
        file.write_text(password or "")
        message = self.error_text(certificates.locked, password_file=None if password is None else str(file))
        if password:
            assert message.endswith(": the password of its private key is wrong, or it is damaged")
        else:
            assert message.endswith(
                ": its private key is encrypted; name a file with the password with --tls-password-file "
                "(tls_password_file)"
            )


# Certificates of clients.


@pytest.fixture
def with_client_ca(certificates: Certificates) -> TLS:
    return TLS([certificates.first, certificates.second], ca=certificates.authority.cert)


@both_versions
@pytest.mark.parametrize("name", ["first.example", "second.example"])
def test_a_client_with_a_signed_certificate(
    net: Net, with_client_ca: TLS, certificates: Certificates, version: ssl.TLSVersion, name: str
) -> None:
    client = TLSClient(net, with_client_ca, client_context(version, own=certificates.ann), name=name).handshake()
    assert client.ask(GET)[0].status == 200


@both_versions
@pytest.mark.parametrize("name", ["first.example", "second.example"])
@pytest.mark.parametrize("has_one", [False, True], ids=["none", "unknown"])
def test_a_client_without_a_signed_certificate(
    net: Net, with_client_ca: TLS, certificates: Certificates, version: ssl.TLSVersion, name: str, has_one: bool
) -> None:
    """An alert tells it why, even if it sends a request first, as it may in TLS 1.3."""
    own = certificates.stranger if has_one else None
    client = TLSClient(net, with_client_ca, client_context(version, own=own), name=name, tcp=True)
    reason = "unknown ca" if has_one else "certificate required" if version == TLS_1_3 else "handshake failure"
    with pytest.raises(ssl.SSLError, match=f"alert {reason}"):
        client.handshake().ask(GET)
    assert net.stats.requests == 0
    assert client.connection.phase == LINGER
    client.send_raw(b"whatever is still on its way")
    client.raw.close()
    net.settle()
    assert net.stats.closed == {"handshake": 1}


# Sessions.


@both_versions
@pytest.mark.parametrize("name", [None, "first.example", "second.example"])
def test_a_second_connection_resumes(
    net: Net, certificates: Certificates, version: ssl.TLSVersion, name: str | None
) -> None:
    tls = TLS([certificates.first, certificates.second])
    context = client_context(version)
    first = TLSClient(net, tls, context, name=name).handshake()
    first.ask(GET)
    assert not first.tls.session_reused
    second = TLSClient(net, tls, context, name=name, session=first.tls.session).handshake()
    assert second.ask(GET)[0].status == 200
    assert second.tls.session_reused
    assert tls._context.session_stats()["hits"] == 1


@both_versions
def test_resuming_with_a_certificate(
    net: Net, with_client_ca: TLS, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = client_context(version, own=certificates.ann)
    first = TLSClient(net, with_client_ca, context).handshake()
    first.ask(GET)
    second = TLSClient(net, with_client_ca, context, session=first.tls.session).handshake()
    assert second.ask(GET)[0].status == 200
    assert second.tls.session_reused


# Ends.


@both_versions
@pytest.mark.parametrize("length", [True, False], ids=["Content-Length", "until the close"])
def test_the_end_is_announced(routed: Net, tls: TLS, router: Router, version: ssl.TLSVersion, length: bool) -> None:
    """A body that is delimited by the end of the connection must not be cut off unnoticed (RFC 9112 §9.8)."""
    if not length:
        router.answers[""] = lambda request: Response(200, Body([b"hel", b"lo"]))
    client = TLSClient(routed, tls, client_context(version), tcp=True).handshake()
    (answer,) = client.ask(GET.replace(b"/1.1", b"/1.0"))
    assert (answer.body, answer.framing) == (b"hello", "length") if length else (b"hello", "close")
    assert client.end == "close_notify"
    assert client.connection.phase == LINGER
    client.finish()
    assert client.connection.phase == CLOSED
    assert routed.stats.closed == {"client asked": 1}


def test_a_truncated_response_has_no_close_notify(routed: Net, tls: TLS, router: Router) -> None:
    router.answers[""] = lambda request: Response(200, Body([CONTENT, b"never"], fails_after=1))
    client = TLSClient(routed, tls).handshake()
    client.write(GET.replace(b"/1.1", b"/1.0"))
    client.read()
    assert client.connection.phase == CLOSED
    assert client.end == "truncated"


def test_abort_sends_no_close_notify(routed: Net, tls: TLS, router: Router) -> None:
    router.answers[""] = lambda request: Response(200, CONTENT * 8)
    client = TLSClient(routed, tls).handshake()
    client.write(GET.replace(b"/1.1", b"/1.0"))
    client.connection.abort()
    client.read()
    assert client.end == "truncated"


def test_an_idle_connection_ends_with_close_notify(net: Net, tls: TLS) -> None:
    """The client's own close_notify, which follows, does not count as a lost request."""
    client = TLSClient(net, tls).handshake()
    client.ask(GET)
    net.sleep(122.0)
    client.read()
    assert client.end == "close_notify"
    client.finish()
    assert net.stats.closed == {"idle": 1}
    assert net.stats.races_lost.total() == 0


def test_a_request_after_the_end_is_a_race_lost(net: Net, tls: TLS) -> None:
    client = TLSClient(net, tls).handshake()
    client.ask(GET)
    request = client.encrypt(GET)
    net.sleep(121.0)
    client.send_raw(request)
    client.raw.close()
    net.settle()
    assert net.stats.closed == {"idle": 1}
    assert net.stats.races_lost == {"idle": 1}


@both_versions
def test_a_client_that_ends_first_gets_close_notify(net: Net, tls: TLS, version: ssl.TLSVersion) -> None:
    """Each side must send it before it stops sending (RFC 8446 §6.1)."""
    client = TLSClient(net, tls, client_context(version)).handshake()
    client.ask(GET)
    client.finish()
    client.read()
    assert client.end == "close_notify"
    assert client.connection.phase == CLOSED
    assert net.stats.closed == {"client": 1}


@both_versions
@pytest.mark.parametrize("politely", [True, False], ids=["close_notify", "FIN"])
def test_a_half_closed_client_gets_its_responses(net: Net, tls: TLS, version: ssl.TLSVersion, politely: bool) -> None:
    """Half-closed by close_notify, or by TCP alone."""
    client = TLSClient(net, tls, client_context(version), tcp=True).handshake()
    wire = client.encrypt(GET + GET)
    if politely:
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()
        client.raw.send(wire + client._outgoing.read())
    else:
        client.raw.send(wire)
        client.raw.finish()
    client.read()
    assert [answer.status for answer in read_answers(client.received, ["GET", "GET"])] == [200, 200]
    assert client.end == "close_notify"
    assert client.connection.phase == CLOSED


def test_a_truncated_body_is_rejected(routed: Net, tls: TLS, router: Router) -> None:
    client = TLSClient(routed, tls).handshake()
    client.write(post(b"x" * 100)[:-1])
    client.raw.finish()
    client.read()
    (answer,) = read_answers(client.received, ["POST"])
    assert answer.status == 400
    assert router.requests == []


def test_a_rejected_upload_does_not_destroy_the_response(routed: Net, tls: TLS) -> None:
    """The bytes that still arrive are read and discarded: a reset would overtake the response."""
    client = TLSClient(routed, tls, tcp=True).handshake()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n"
    client.raw.send(client.encrypt(head) + client.encrypt(CONTENT))
    routed.settle()
    for _ in range(20):
        client.write(CONTENT)
    client.read()
    (answer,) = read_answers(client.received, ["POST"])
    assert answer.status == 413
    assert client.end == "close_notify"
    assert not client.raw.was_reset


def test_close_notify_waits_for_room(routed: Net, tls: TLS, router: Router) -> None:
    """The kernel has taken the response, but no more: close_notify follows when there is room."""
    ends = []
    for size in range(5000, 9500, 250):
        router.answers[""] = Response(200, bytes(size))
        client = TLSClient(routed, tls, send_buffer=4608).handshake()
        client.send_raw(client.encrypt(LAST_GET))
        routed.settle()
        if client.connection.phase == SEND and not client.connection._writer.buffer:
            assert routed.interest(client.connection) == WRITE
            client.read()
            assert client.connection.phase == LINGER
            ends.append(client.end)
    assert ends
    assert set(ends) == {"close_notify"}


# The loop must not spin.


class Pair:
    """The two ends of a connection, after the handshake. The client's end blocks."""

    def __init__(self, tls: TLS) -> None:
        theirs, ours = socket.socketpair()
        theirs.setblocking(False)
        ours.setblocking(False)
        self.client = client_context().wrap_socket(theirs, do_handshake_on_connect=False)
        self.server = tls.wrap(ours)

    def __enter__(self) -> Pair:
        waiting: list[Any] = [self.client.do_handshake, self.server.handshake]
        while waiting:
            step = waiting.pop(0)
            try:
                step()
            except (BlockingIOError, ssl.SSLWantReadError):
                waiting.append(step)
        self.client.settimeout(5.0)
        return self

    def __exit__(self, *exception: object) -> None:
        self.client.close()
        self.server.close()


class Sink:
    """Replaces an SSLSocket: takes all bytes that are sent, or raises what OpenSSL cannot be made to raise at will."""

    def __init__(self, sock: TLSSocket, error: Exception | None = None) -> None:
        self._replaced = sock._sock
        self._error = error
        sock._sock = self  # type: ignore[assignment]  # it has the methods that a TLSSocket calls

    def send(self, data: memoryview) -> int:
        if self._error is not None:
            raise self._error
        return len(data)

    def recv(self, size: int) -> bytes:
        assert self._error is not None
        raise self._error

    def unwrap(self) -> None:
        pass

    def close(self) -> None:
        self._replaced.close()


def test_new_keys_for_a_client_that_reads_nothing(tls: TLS) -> None:
    """Reading needs to write, or writing to read: waiting for the one while the other is ready would spin."""
    with Pair(tls) as pair:
        sink = Sink(pair.server, ssl.SSLWantWriteError())
        with pytest.raises(ConnectionError):
            pair.server.recv(100)
        sink._error = ssl.SSLWantReadError()
        with pytest.raises(ConnectionError):
            pair.server.send(b"x")


def test_a_forged_record(net: Net, tls: TLS, caplog: pytest.LogCaptureFixture) -> None:
    client = TLSClient(net, tls).handshake()
    record = bytearray(client.encrypt(GET))
    record[-1] ^= 1
    client.send_raw(bytes(record))
    with pytest.raises(ssl.SSLError, match="alert bad record mac"):
        client.read()
    assert client.connection.phase == CLOSED
    assert net.stats.closed == {"reset": 1}
    assert net.stats.requests == 0
    assert caplog.records == []


def test_a_client_that_disappears_in_the_middle_of_a_file(
    routed: Net, tls: TLS, router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    router.answers[""] = lambda request: Response(200, file_span(CONTENT * 8))
    client = TLSClient(routed, tls, tcp=True).handshake()
    client.write(GET)
    client.raw.reset()
    routed.settle()
    assert client.connection.phase == CLOSED
    assert routed.stats.closed == {"reset": 1}
    assert caplog.records == []


# Reloading certificates.


@pytest.fixture
def changing(certificates: Certificates, tmp_path: Path) -> Certificate:
    """Files that the test overwrites."""
    files = Certificate(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    replace(files, certificates.first)
    return files


def replace(files: Certificate, by: Certificate) -> None:
    for new, old in zip(by, files, strict=True):
        shutil.copyfile(new, old)


def test_reload_is_for_new_connections(net: Net, certificates: Certificates, changing: Certificate) -> None:
    tls = TLS([changing])
    old = TLSClient(net, tls).handshake()
    shaking = TLSClient(net, tls)
    shaking.send_raw(shaking.hello())
    replace(changing, certificates.second)
    tls.reload()
    assert certificate_for(net, tls, None) == der(certificates.second)
    shaking.handshake()
    for client in (old, shaking):
        assert client.ask(GET)[0].status == 200
        assert client.tls.getpeercert(binary_form=True) == der(certificates.first)


@pytest.mark.parametrize("missing", [True, False], ids=["no key file", "the key of another"])
def test_reload_of_unusable_files(net: Net, certificates: Certificates, changing: Certificate, missing: bool) -> None:
    tls = TLS([changing])
    if missing:
        Path(changing.key).unlink()
    else:
        shutil.copyfile(certificates.second.cert, changing.cert)  # but not its key: the moment between two renames
    with pytest.raises(OSError, match="cannot use the key"):
        tls.reload()
    assert certificate_for(net, tls, None) == der(certificates.first)


# The server.


def connect_tls(address: SocketAddress, name: str | None = None) -> tuple[Client, bytes | None]:
    """Returns a client, and the certificate that it got."""
    sock = client_context().wrap_socket(connect(address).sock, server_hostname=name)
    return Client(sock), sock.getpeercert(binary_form=True)


def test_sighup_reads_certificates_again(certificates: Certificates, changing: Certificate, tmp_path: Path) -> None:
    files = ("--tls-cert", changing.cert, "--tls-key", changing.key)
    with Process("0", "-d", str(tmp_path), *files) as process:
        old, shown = connect_tls(process.address)
        assert shown == der(certificates.first)
        replace(changing, certificates.second)
        process.signal(signal.SIGHUP)
        wait_for(lambda: "INFO: the certificates were reloaded" in process.stderr)
        new, shown = connect_tls(process.address)
        assert shown == der(certificates.second)
        Path(changing.cert).write_text("half a certificate")
        process.signal(signal.SIGHUP)
        wait_for(
            lambda: (
                "ERROR: the certificates are not reloaded, the old ones stay in use: cannot use the " in process.stderr
            )
        )
        newer, shown = connect_tls(process.address)
        assert shown == der(certificates.second)
        for client in (old, new, newer):
            with client:
                assert client.ask("/cert.pem").status == 200
        assert "Traceback" not in process.stderr


def test_the_settings_of_a_server(certificates: Certificates, tmp_path: Path) -> None:
    """Several certificates, their keys in the same order, a password for the key that needs one."""
    password = tmp_path / "password"
    password.write_text("open sesame")
    with Process(
        *("0", "-d", str(tmp_path)),
        *("--tls-cert", certificates.second.cert, "--tls-key", certificates.second.key),
        *("--tls-cert", certificates.locked.cert, "--tls-key", certificates.locked.key),
        *("--tls-password-file", str(password)),
    ) as process:
        assert process.url.startswith("https://127.0.0.1:")
        for name, certificate in [(None, certificates.second), ("locked.example", certificates.locked)]:
            client, shown = connect_tls(process.address, name)
            assert shown == der(certificate)
            client.close()


def test_renegotiation_is_rejected(certificates: Certificates) -> None:
    """RFC 5246 §7.2.2. The command R of OpenSSL's own client asks for it."""
    with serving(hello, tls_cert=certificates.first.cert, tls_key=certificates.first.key) as server:
        assert isinstance(server.address, tuple)
        target = ":".join(map(str, server.address))
        command = [program("openssl"), "s_client", "-tls1_2", "-connect", target]
        terminal, typed = os.pipe()  # stays open: at its end the client would exit at once
        with open(terminal, "rb") as stdin, open(typed, "wb", buffering=0) as keys:
            keys.write(b"R\n")
            said = subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=PATIENCE)
        assert "RENEGOTIATING" in said.stdout + said.stderr
        assert "no renegotiation" in said.stderr
        client, _ = connect_tls(server.address)
        with client:
            assert client.ask().status == 200


def test_requests_know_their_scheme(certificates: Certificates) -> None:
    def scheme(request: Request) -> Response:
        return Response.text(request.scheme)

    with serving(scheme, tls_cert=certificates.first.cert, tls_key=certificates.first.key) as server:
        client, _ = connect_tls(server.address)
        with client:
            assert client.ask().body == b"https"


def test_reload_without_tls(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Driven(hello) as driven:
        driven.server.reload()
        driven.settle()
        assert driven.connect().ask().status == 200
    assert caplog.records == []
