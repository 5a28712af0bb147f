"""The environ: PEP 3333 and RFC 3875 for each part of a request, and what must never reach an application."""

from __future__ import annotations

import io
from typing import Any

import pytest

from kaserve.handlers.wsgi.environ import Environ, EnvironBuilder
from kaserve.http.address import UNNAMED, Address, AnyAddress, UnixAddress
from kaserve.http.keep_alive import KeepAlive
from kaserve.http.limits import Limits
from kaserve.http.messages import Request
from kaserve.http.protocol import HTTPProtocol

CLIENT = Address("192.0.2.1", 4711)
SERVER = Address("192.0.2.2", 8080)


def parse(
    line: str = "GET / HTTP/1.1",
    *fields: str,
    client: AnyAddress = CLIENT,
    server: AnyAddress = SERVER,
    scheme: str = "http",
) -> Request:
    host = [] if any(field.lower().startswith("host:") for field in fields) or "1.0" in line else ["Host: h"]
    protocol = HTTPProtocol(Limits(), KeepAlive(5.0, 0))
    protocol.receive("".join(f"{each}\r\n" for each in (line, *host, *fields, "")).encode("latin-1"))
    request = protocol.read_head()
    assert request is not None
    request.client, request.server, request.scheme = client, server, scheme
    return request


def environ(line: str = "GET / HTTP/1.1", *fields: str, **ends: Any) -> Environ:
    return EnvironBuilder({}).build(parse(line, *fields, **ends))


def test_the_whole_environ() -> None:
    made = EnvironBuilder({"wsgi.multithread": True}).build(parse("GET /a/b?x=1&y HTTP/1.1", "Accept: */*"))
    errors, body = made.pop("wsgi.errors"), made.pop("wsgi.input")
    assert errors.write("") == 0
    assert body.read() == b""
    assert type(made) is dict  # PEP 3333: and no subclass
    assert made == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "x=1&y",
        "REQUEST_URI": "/a/b?x=1&y",
        "RAW_URI": "/a/b?x=1&y",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "192.0.2.2",
        "SERVER_PORT": "8080",
        "SERVER_SOFTWARE": "kaserve",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_HOST": "192.0.2.1",
        "REMOTE_PORT": "4711",
        "HTTP_HOST": "h",
        "HTTP_ACCEPT": "*/*",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input_terminated": True,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
    }


def test_each_request_has_its_own_environ() -> None:
    build = EnvironBuilder({}).build
    first = build(parse("GET /1 HTTP/1.1", "X: 1"))
    second = build(parse("GET /2 HTTP/1.1", "Y: 2", client=Address("192.0.2.9", 1)))
    third = build(parse("GET /3 HTTP/1.1", server=Address("192.0.2.3", 80), scheme="https"))
    fourth = build(parse("GET /4 HTTP/1.1", client=UNNAMED))
    assert [each["PATH_INFO"] for each in (first, second, third, fourth)] == ["/1", "/2", "/3", "/4"]
    assert "HTTP_X" not in second
    assert (first["REMOTE_ADDR"], second["REMOTE_ADDR"], fourth["REMOTE_ADDR"]) == ("192.0.2.1", "192.0.2.9", "")
    # Without a look-up of names, the address stands for the name (RFC 3875 §4.1.9).
    assert (first["REMOTE_HOST"], second["REMOTE_HOST"], fourth["REMOTE_HOST"]) == ("192.0.2.1", "192.0.2.9", "")
    assert (third["SERVER_NAME"], third["SERVER_PORT"], third["HTTPS"]) == ("192.0.2.3", "80", "on")
    assert third["wsgi.url_scheme"] == "https"
    assert fourth["wsgi.url_scheme"] == "http"
    assert "HTTPS" not in fourth


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a%20b", "/a b"),
        ("/%C3%A4", "/\xc3\xa4"),  # bytes as Latin-1, whatever they mean
        ("/%FF", "/\xff"),
        ("/%2Fetc%00", "//etc\0"),
        ("/%25%32%35", "/%25"),  # once
        ("/%zz%4", "/%zz%4"),  # no escapes
        ("//a/../b", "//a/../b"),  # as sent: what it means is the application's business
        ("http://other/p%20q?r", "/p q"),
        ("http://other", "/"),
    ],
)
def test_paths(target: str, path: str) -> None:
    made = environ(f"GET {target} HTTP/1.1")
    assert made["PATH_INFO"] == path
    assert made["REQUEST_URI"] == made["RAW_URI"] == target


def test_options_of_the_whole_server_has_no_path() -> None:
    assert environ("OPTIONS * HTTP/1.1")["PATH_INFO"] == ""


def test_script_name_is_the_mount() -> None:
    request = parse("GET /x%20y/a%20b HTTP/1.1")
    request.mount, request.raw_path = "/x%20y", "/a%20b"
    made = EnvironBuilder({}).build(request)
    assert (made["SCRIPT_NAME"], made["PATH_INFO"]) == ("/x y", "/a b")


def test_the_user_is_the_one_that_a_middleware_let_through() -> None:  # RFC 3875 §4.1.11
    request = parse("GET / HTTP/1.1", "Remote-User: eve", "Authorization: Basic ZXZlOng=")
    made = EnvironBuilder({}).build(request)
    assert "REMOTE_USER" not in made
    assert made["HTTP_REMOTE_USER"] == "eve"
    request.remote_user = "ann"
    assert EnvironBuilder({}).build(request)["REMOTE_USER"] == "ann"


def test_versions() -> None:
    assert environ("GET / HTTP/1.0")["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert "HTTP_HOST" not in environ("GET / HTTP/1.0")


class TestFields:
    def test_repeated_headers_are_joined(self) -> None:  # RFC 9110 §5.3
        made = environ("GET / HTTP/1.1", "X-A: 1", "x-b: 0", "X-A: 2, 3", "x-A:")
        assert (made["HTTP_X_A"], made["HTTP_X_B"]) == ("1,2, 3,", "0")

    def test_cookies_are_joined_with_a_semicolon(
        self,
    ) -> None:  # RFC 6265 §5.4 knows one field only; RFC 9113 §8.2.3 joins as here
        assert environ("GET / HTTP/1.1", "Cookie: a=1", "Cookie: b=2")["HTTP_COOKIE"] == "a=1; b=2"

    def test_bytes_are_latin_1(self) -> None:
        assert environ("GET / HTTP/1.1", "X: \xe4\xff")["HTTP_X"] == "\xe4\xff"

    def test_content(self) -> None:  # RFC 3875 §4.1.2, §4.1.3: without HTTP_
        made = environ("POST / HTTP/1.1", "Content-Type: text/plain", "Content-Length: 0")
        assert (made["CONTENT_TYPE"], made["CONTENT_LENGTH"]) == ("text/plain", "0")
        assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & made.keys()
        assert not {"CONTENT_TYPE", "CONTENT_LENGTH"} & environ().keys()

    @pytest.mark.parametrize("name", ["X_User", "x_user", "X-Forwarded_For", "Content_Length", "_"])
    def test_names_with_an_underscore_are_dropped(self, name: str) -> None:
        made = environ("GET / HTTP/1.1", f"{name}: evil")
        assert "evil" not in made.values()
        made = environ("GET / HTTP/1.1", "X-User: good", f"{name}: evil")
        assert made["HTTP_X_USER"] == "good"

    @pytest.mark.parametrize(
        "field",
        ["Connection: x", "Keep-Alive: x", "Proxy-Connection: x", "TE: x", "Trailer: x", "Upgrade: x"],
    )
    def test_hop_by_hop_headers_are_dropped(self, field: str) -> None:  # RFC 9110 §7.6.1
        assert "x" not in environ("GET / HTTP/1.1", field).values()

    def test_headers_that_connection_names_are_dropped(self) -> None:
        made = environ(
            "GET / HTTP/1.1",
            "Connection: keep-alive, X-Hop",
            *("X-Hop: 1", "X-End: 2", "X-Far: 3", "Content-Type: text/plain"),
            "Connection: x-far , content-type, host,, close",
        )
        assert not {"HTTP_X_HOP", "HTTP_X_FAR"} & made.keys()
        assert (made["HTTP_X_END"], made["CONTENT_TYPE"], made["HTTP_HOST"]) == ("2", "text/plain", "h")

    @pytest.mark.parametrize("option", ["keep-alive", "close", "Upgrade"])
    def test_usual_connection_options_drop_nothing(self, option: str) -> None:
        assert environ("GET / HTTP/1.1", f"Connection: {option}", "X: 1")["HTTP_X"] == "1"

    def test_an_absolute_target_overrules_host(self) -> None:  # RFC 9112 §3.2.2
        assert environ("GET http://a.example:81/ HTTP/1.1", "Host: b.example")["HTTP_HOST"] == "a.example:81"

    def test_the_memory_of_names_is_bounded(self) -> None:
        builder = EnvironBuilder({})
        build = builder.build
        for number in range(5000):
            assert build(parse("GET / HTTP/1.1", f"X-{number}: {number}"))[f"HTTP_X_{number}"] == str(number)
        assert len(builder._header_keys) <= 1024
        assert build(parse("GET / HTTP/1.1", "Content-Type: a/b"))["CONTENT_TYPE"] == "a/b"


class TestUnixSockets:
    @pytest.mark.parametrize(
        ("host", "scheme", "name", "port"),
        [
            ("a.example", "http", "a.example", "80"),
            ("a.example", "https", "a.example", "443"),
            ("a.example:81", "http", "a.example", "81"),
            ("a.example:", "http", "a.example", "80"),
            ("[::1]", "http", "[::1]", "80"),
            ("[::1]:81", "http", "[::1]", "81"),
            ("81", "http", "81", "80"),
            ("", "http", "localhost", "80"),
        ],
    )
    def test_the_server_name_is_the_host_header(self, host: str, scheme: str, name: str, port: str) -> None:
        made = environ("GET / HTTP/1.1", f"Host: {host}", client=UNNAMED, server=UnixAddress("/run/s"), scheme=scheme)
        assert (made["SERVER_NAME"], made["SERVER_PORT"]) == (name, port)
        assert (made["REMOTE_ADDR"], made["REMOTE_HOST"], made["REMOTE_PORT"]) == ("", "", "")

    def test_it_is_read_for_each_request(self) -> None:
        build = EnvironBuilder({}).build
        names = [
            build(parse("GET / HTTP/1.1", f"Host: {host}", client=UNNAMED, server=UnixAddress("/run/site")))[
                "SERVER_NAME"
            ]
            for host in ("a", "b")
        ]
        assert names == ["a", "b"]


class TestInput:
    def test_a_body_of_known_length(self) -> None:
        request = parse("POST / HTTP/1.1", "Content-Length: 5")
        request.body = io.BytesIO(b"hello")
        made = EnvironBuilder({}).build(request)
        assert made["CONTENT_LENGTH"] == "5"
        assert made["wsgi.input"].read(100) == b"hello"

    def test_a_chunked_body_gets_a_content_length(self) -> None:  # RFC 9112 §7.1.3
        request = parse("POST / HTTP/1.1", "Transfer-Encoding: chunked")
        request.body = io.BytesIO(b"hello\nyou")
        made = EnvironBuilder({}).build(request)
        assert made["CONTENT_LENGTH"] == "9"
        assert "HTTP_TRANSFER_ENCODING" not in made
        assert list(made["wsgi.input"]) == [b"hello\n", b"you"]

    def test_the_empty_body_is_shared_and_stays_empty(self) -> None:
        build = EnvironBuilder({}).build
        body = build(parse())["wsgi.input"]
        with pytest.raises(io.UnsupportedOperation):
            body.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            body.writelines([b"x"])
        body.seek(100)
        body.truncate(200)
        body.close()
        body = build(parse())["wsgi.input"]
        assert (body.read(), body.read(5), body.readline(), body.readlines(), list(body)) == (b"", b"", b"", [], [])


class TestTemplates:
    """What is the same for all requests of a connection is made once, and belongs to that connection."""

    def test_connections_that_take_turns(self) -> None:
        builder = EnvironBuilder({})
        clients: list[AnyAddress] = [
            Address("192.0.2.1", 4711),
            Address("192.0.2.1", 4712),
            Address("2001:db8::1", 80),
            UNNAMED,
        ]
        for client in clients * 3:
            made = builder.build(parse("GET / HTTP/1.1", client=client))
            port = str(client.port) if client.host else ""
            assert (made["REMOTE_ADDR"], made["REMOTE_HOST"], made["REMOTE_PORT"]) == (client.host, client.host, port)

    def test_one_client_at_two_servers_and_with_two_schemes(self) -> None:
        builder = EnvironBuilder({})
        ends = [(Address(f"192.0.2.{number}", 80), scheme) for number in (2, 3) for scheme in ("http", "https")]
        for server, scheme in ends * 2:
            made = builder.build(parse("GET / HTTP/1.1", server=server, scheme=scheme))
            assert (made["SERVER_NAME"], made["wsgi.url_scheme"]) == (server.host, scheme)
            assert made.get("HTTPS") == ("on" if scheme == "https" else None)

    def test_an_application_cannot_change_the_environ_of_the_next_request(self) -> None:
        builder = EnvironBuilder({})
        first = builder.build(parse("GET /?a HTTP/1.1"))
        first.update(SERVER_NAME="changed", QUERY_STRING="changed", new="changed")
        assert "changed" not in builder.build(parse()).values()

    def test_their_number_is_bounded(self) -> None:
        builder = EnvironBuilder({})
        for port in range(1, 3000):
            assert builder.build(parse(client=Address("192.0.2.1", port)))["REMOTE_PORT"] == str(port)
        assert len(builder._templates) <= 1024
