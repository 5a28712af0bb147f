"""Forwarded: which peers it trusts, which headers it reads, and what it leaves alone."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve import HTTPError, Request, Response, Server
from kaserve.handlers.middleware.forwarded import Forwarded, ForwardedClient, Trusted
from kaserve.http.address import UNNAMED, Address, AnyAddress, UnixAddress
from kaserve.http.handler import BaseHandler
from kaserve.http.sinks import DrainSink, Sink
from tests.tools.server import config, connect, hello, serving, wait_for

PROXY = Address("127.0.0.1", 50000)


def seen(*fields: tuple[str, str], trusted: str = "127.0.0.1", peer: AnyAddress = PROXY) -> tuple[AnyAddress, str, str]:
    """What a handler sees of a request with `fields` that came from `peer`."""
    request = Request("GET", "/", 1, list(fields), host="inner")
    request.client = peer
    Forwarded(lambda _: Response(), Trusted(trusted))(request)
    return request.client, request.scheme, request.authority


def client(value: str, trusted: str = "127.0.0.1", name: str = "x-forwarded-for") -> AnyAddress:
    return seen((name, value), trusted=trusted)[0]


UNTOUCHED = (PROXY, "http", "inner")
ALL = [
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "example.org"),
]
STANDARD = [("forwarded", 'for="192.0.2.7:4711";proto=https;host=example.org;by=_proxy')]


class TestTrusted:
    @pytest.mark.parametrize(
        ("text", "address", "is_trusted"),
        [
            ("", PROXY, False),
            ("", UnixAddress("/run/socket"), False),
            ("127.0.0.1", PROXY, True),
            ("127.0.0.2", PROXY, False),
            ("::1", PROXY, False),
            ("::1", Address("::1", 1), True),
            ("::1", Address("0:0:0:0:0:0:0:1", 1), True),
            ("10.0.0.0/8,127.0.0.1", Address("10.255.0.1", 1), True),
            ("10.0.0.0/8 , 127.0.0.1", PROXY, True),
            ("10.0.0.0/8", Address("11.0.0.1", 1), False),
            ("127.0.0.1", Address("::ffff:127.0.0.1", 1), True),  # what a socket for both families shows
            ("fe80::/10", Address("fe80::1%eth0", 1), True),
            ("*", Address("192.0.2.1", 1), True),
            ("*", UnixAddress("/run/socket"), True),
            ("unix", UnixAddress("/run/socket"), True),
            ("unix", PROXY, False),
            ("127.0.0.1", UnixAddress("/run/socket"), False),
            ("unix", UNNAMED, True),
            ("127.0.0.1", Address("no address", 1), False),
        ],
    )
    def test_which_addresses_are_in_the_set(self, text: str, address: AnyAddress, is_trusted: bool) -> None:
        assert (address in Trusted(text)) is is_trusted

    @pytest.mark.parametrize(
        "text", ["localhost", "127.0.0.1,", ",", "10.0.0.1/8", "10.0.0.0/33", "1.2.3", "**", "Unix"]
    )
    def test_invalid_settings(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            Trusted(text)


class TestWhichPeerIsTrusted:
    @pytest.mark.parametrize("fields", [ALL, STANDARD], ids=["x-forwarded", "forwarded"])
    def test_a_proxy_that_is_trusted(self, fields: list[tuple[str, str]]) -> None:
        address, scheme, authority = seen(*fields)
        assert address in (("192.0.2.7", 0), Address("192.0.2.7", 4711))
        assert (scheme, authority) == ("https", "example.org")

    @pytest.mark.parametrize("fields", [ALL, STANDARD], ids=["x-forwarded", "forwarded"])
    @pytest.mark.parametrize("trusted", ["", "127.0.0.2", "unix", "192.0.2.7"])
    def test_any_other_peer(self, fields: list[tuple[str, str]], trusted: str) -> None:
        assert seen(*fields, trusted=trusted) == UNTOUCHED

    def test_a_unix_socket_where_it_is_allowed(self) -> None:
        assert seen(*ALL, trusted="unix", peer=UnixAddress("/run/s"))[0] == Address("192.0.2.7", 0)
        assert seen(*ALL, trusted="127.0.0.1", peer=UnixAddress("/run/s"))[0] == "/run/s"


# Both kinds of headers name the same chains.
CHAINS = [
    ("192.0.2.7", "127.0.0.1", "192.0.2.7"),
    ("192.0.2.1, 192.0.2.7", "127.0.0.1", "192.0.2.7"),  # the client may have made up the left one
    ("192.0.2.1, 192.0.2.7, 10.0.0.1", "127.0.0.1,10.0.0.0/8", "192.0.2.7"),
    ("192.0.2.7, 10.0.0.2, 10.0.0.1", "127.0.0.1,10.0.0.0/8", "192.0.2.7"),
    ("10.0.0.9, 10.0.0.1", "127.0.0.1,10.0.0.0/8", "10.0.0.9"),  # all of them are trusted
    ("192.0.2.1, 192.0.2.7", "*", "192.0.2.1"),
    ("unknown, 10.0.0.1", "127.0.0.1,10.0.0.0/8", "10.0.0.1"),
    ("192.0.2.1, unknown, 10.0.0.1", "*", "10.0.0.1"),  # it is unknown who wrote the left one
    ("192.0.2.1, unknown", "127.0.0.1", "127.0.0.1"),
]


class TestTheChain:
    @pytest.mark.parametrize(("chain", "trusted", "host"), CHAINS)
    def test_x_forwarded_for(self, chain: str, trusted: str, host: str) -> None:
        address = client(chain, trusted)
        assert isinstance(address, tuple)
        assert address[0] == host

    @pytest.mark.parametrize(("chain", "trusted", "host"), CHAINS)
    def test_forwarded(self, chain: str, trusted: str, host: str) -> None:
        address = client(", ".join(f"for={hop}" for hop in chain.split(", ")), trusted, "forwarded")
        assert isinstance(address, tuple)
        assert address[0] == host

    def test_several_lines_are_one_chain(self) -> None:
        lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.7")]
        assert seen(*lines)[0] == Address("192.0.2.7", 0)
        lines = [("forwarded", "for=192.0.2.1"), ("forwarded", "for=192.0.2.7")]
        assert seen(*lines)[0] == Address("192.0.2.7", 0)

    @pytest.mark.parametrize(
        ("node", "address"),
        [
            ("192.0.2.7:4711", Address("192.0.2.7", 4711)),
            ("[2001:db8::7]:4711", Address("2001:db8::7", 4711)),
            ("[2001:DB8:0::7]", Address("2001:db8::7", 0)),
            ("2001:db8::7", Address("2001:db8::7", 0)),
            ("::ffff:192.0.2.7", Address("192.0.2.7", 0)),
            ("192.0.2.7:_x-1.y", Address("192.0.2.7", 0)),  # RFC 7239 §6.3: the port alone is hidden
            ("[2001:db8::7]:_x", Address("2001:db8::7", 0)),
        ],
    )
    def test_forms_of_a_node(self, node: str, address: AnyAddress) -> None:
        assert client(node) == client(f"\t {node} ") == address
        assert client(f'for="{node}"', name="forwarded") == address

    @pytest.mark.parametrize(
        "node",
        [
            "", " ", ",", "unknown", "_hidden", "localhost", "192.0.2.07", "192.0.2",
            "192.0.2.7:", "192.0.2.7:_", "192.0.2.7:_\xb9",
            "192.0.2.7:65536", "192.0.2.7:-1", "192.0.2.7/32", "[192.0.2.7",
            "[2001:db8::7", "2001:db8::7]", "fe80::1%eth0",
            "[fe80::1%25x]", "1" * 5000, ":" * 5000, "192.0.2.7\x00", "\xb9.2.3.4", "[]", "[]:1", '"', "\\",
        ],
    )  # fmt: skip
    def test_a_malformed_address_changes_nothing(self, node: str) -> None:
        assert client(node) == client(f"192.0.2.1, {node}") == PROXY
        assert client(f'for="{node}"', name="forwarded") == PROXY

    def test_a_very_long_chain(self) -> None:
        assert client("192.0.2.1, " + "10.0.0.1, " * 5000 + "10.0.0.2", "*") == Address("10.0.0.1", 0)
        assert client("for=192.0.2.1, " + "for=10.0.0.1, " * 5000 + "for=10.0.0.2", "*", "forwarded") == PROXY


class TestForwarded:
    """RFC 7239."""

    @pytest.mark.parametrize(
        "value",
        [
            "for=192.0.2.7;proto=https;host=example.org",
            "For=192.0.2.7;PROTO=HTTPS;Host=example.org",  # §4: names have no case
            'for="192.0.2.7";proto="https";host="example.org"',
            r'for="192.0.2.\7";proto=https;host="exampl\e.org"',
            "for=192.0.2.7; proto=https ;host=example.org",
            ";for=192.0.2.7;;proto=https;host=example.org;",
            ", for=192.0.2.7;proto=https;host=example.org , ,",
            "for=192.0.2.1;proto=http;host=evil, for=192.0.2.7;proto=https;host=example.org",
            'for="1.2.3.4, 5.6.7.8;x", for=192.0.2.7;proto=https;host=example.org',
            "for=192.0.2.7;proto=https;host=example.org;extension=1",
        ],
    )
    def test_what_it_means(self, value: str) -> None:
        assert seen(("forwarded", value)) == (("192.0.2.7", 0), "https", "example.org")

    @pytest.mark.parametrize(
        "value",
        [
            "for=192.0.2.7;for=192.0.2.8", "for 192.0.2.7", "for=", "=192.0.2.7", 'for="192.0.2.7', "for=192.0.2.7;x",
            "for=[2001:db8::7]", "for = 192.0.2.7", "for=192.0.2.7 proto=https", 'evil", for=192.0.2.7', "\xff",
            'for=192.0.2.7;host="\\', "a=" + "b" * 10_000 + ", for=192.0.2.7", " " * 8000 + "!",
            '"' * 8000, ";" * 9000,
        ],
    )  # fmt: skip
    def test_a_malformed_header_is_ignored(self, value: str) -> None:
        assert seen(("forwarded", value)) == UNTOUCHED

    def test_scheme_and_host_are_those_of_the_hop_that_names_the_client(self) -> None:
        chain = "for=192.0.2.1;proto=http;host=evil", "for=192.0.2.7;proto=https;host=a.example", "for=10.0.0.1;host=b"
        assert seen(("forwarded", ", ".join(chain)), trusted="127.0.0.1,10.0.0.1") == (
            Address("192.0.2.7", 0),
            "https",
            "a.example",
        )

    def test_a_client_that_stays_hidden_still_has_a_scheme(self) -> None:
        assert seen(("forwarded", "for=_hidden;proto=https")) == (PROXY, "https", "inner")


class TestSchemeAndHost:
    @pytest.mark.parametrize(("value", "scheme"), [("https", "https"), ("HTTPS", "https"), ("http, https ", "https")])
    def test_schemes(self, value: str, scheme: str) -> None:
        assert seen(("x-forwarded-proto", value)) == (PROXY, scheme, "inner")

    @pytest.mark.parametrize(
        "value", ["", "ftp", "https\x00", "https:", "on", "https,", "http\u017f"[:5], "javascript"]
    )
    def test_unknown_schemes(self, value: str) -> None:
        assert seen(("x-forwarded-proto", value)) in (UNTOUCHED, (PROXY, "http", "inner"))

    @pytest.mark.parametrize("value", ["example.org", "example.org:8443", "[2001:db8::7]:80", "a, example.org"])
    def test_hosts(self, value: str) -> None:
        assert seen(("x-forwarded-host", value)) == (PROXY, "http", value.rpartition(", ")[2])

    @pytest.mark.parametrize("value", ["", "a/b", "a@b", "a b", ":80", "a:99999", "<script>", "\xe4", "a,", "x" * 2000])
    def test_malformed_hosts(self, value: str) -> None:
        assert seen(("x-forwarded-host", value)) == UNTOUCHED

    def test_the_last_line_counts(self) -> None:
        lines = [("x-forwarded-proto", "http"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "a")]
        assert seen(*lines, ("x-forwarded-host", "b")) == (PROXY, "https", "b")


class TestBothKinds:
    def test_that_agree(self) -> None:
        assert seen(("forwarded", "for=192.0.2.7;proto=https"), ("x-forwarded-for", "192.0.2.7")) == (
            Address("192.0.2.7", 0),
            "https",
            "inner",
        )

    @pytest.mark.parametrize(
        "brought",
        ["for=192.0.2.8", "for=192.0.2.7;proto=http", "for=192.0.2.7;host=evil", "host=evil"],
    )
    def test_that_contradict_each_other(self, brought: str) -> None:
        """A proxy that knows only one kind passes on the other one."""
        assert seen(*ALL, ("forwarded", brought)) == UNTOUCHED


def test_the_client_and_the_scheme_alone() -> None:
    request = Request("GET", "/", 1, [*ALL, ("forwarded", "for=192.0.2.8;proto=http;host=evil")], host="inner")
    request.client = PROXY
    ForwardedClient(lambda _: Response(), Trusted("127.0.0.1"))(request)
    assert (request.client, request.scheme, request.authority) == (("192.0.2.7", 0), "https", "inner")


class TestHooks:
    """The hooks of the inner handler see the rewritten request."""

    class Picky(BaseHandler):
        def __init__(self) -> None:
            self.seen: list[AnyAddress] = []

        def __call__(self, request: Request) -> Response:
            self.seen.append(request.client)
            return Response.text("")

        def before_body(self, request: Request) -> None:
            self.seen.append(request.client)
            if request.path == "/no":
                raise HTTPError(403, "no")

        def body_sink(self, request: Request) -> Sink:
            self.seen.append(request.client)
            return DrainSink()

    def test_over_the_wire(self) -> None:
        picky = self.Picky()
        body = "X-Forwarded-For: 192.0.2.1, 127.0.0.1, 192.0.2.7\r\nContent-Length: 2\r\n\r\nab"
        with serving(picky, forwarded_allow_ips="127.0.0.1") as server, connect(server) as one:
            one.send(f"POST / HTTP/1.1\r\nHost: h\r\n{body}".encode())
            assert one.answer().status == 200
            assert picky.seen == [Address("192.0.2.7", 0)] * 3
            one.send(f"POST /no HTTP/1.1\r\nHost: h\r\n{body}".encode())
            assert one.answer().status == 403
        picky.seen.clear()
        with serving(picky) as server, connect(server) as one:
            assert one.ask("/", "X-Forwarded-For: 192.0.2.7").status == 200
            assert picky.seen == [one.sock.getsockname()]

    def test_the_access_log_shows_the_client(self) -> None:
        lines: list[bytes] = []
        settings = config(forwarded_allow_ips="127.0.0.1", access_log=True)
        with Server(hello, settings, log_lines=lines.append) as server, connect(server) as one:
            assert one.ask("/", "X-Forwarded-For: 192.0.2.7", "Connection: close").status == 200
            wait_for(lambda: lines)
        assert lines[0].startswith(b"192.0.2.7 - - [")

    def test_a_handler_without_hooks(self) -> None:
        handler = Forwarded(lambda _: Response(), Trusted("*"))
        request = Request("POST", "/", 1, [("x-forwarded-for", "192.0.2.7")])
        handler.before_body(request)
        assert request.client == Address("192.0.2.7", 0)
        assert handler.body_sink(request) is None


NODES = st.sampled_from(
    ["127.0.0.1", "10.0.0.1", "192.0.2.1", "192.0.2.7:1", "unknown", "_x", "[::1]:5", "::1", "", "x"]
)
LINES = st.lists(
    st.one_of(
        st.tuples(st.just("x-forwarded-for"), st.lists(NODES).map(", ".join)),
        st.tuples(st.just("forwarded"), st.lists(NODES.map('for="{}"'.format)).map(",".join)),
        st.tuples(
            st.sampled_from(["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]),
            st.text('fo="\\;, 1.:[]hostprxy%@\xff\t', max_size=40),
        ),
    ),
    max_size=4,
)


@given(LINES, st.sampled_from(["127.0.0.1", "127.0.0.1,10.0.0.0/8", "*", "10.0.0.1", "127.0.0.1,192.0.2.0/24,::1"]))
def test_nothing_fails_and_twice_is_the_same_as_once(lines: list[tuple[str, str]], trusted: str) -> None:
    request = Request("POST", "/", 1, lines, host="inner")
    request.client = PROXY
    request.body = io.BytesIO()
    handler = Forwarded(lambda _: Response(), Trusted(trusted))
    handler.before_body(request)
    once = request.client, request.scheme, request.authority
    handler(request)
    assert (request.client, request.scheme, request.authority) == once
