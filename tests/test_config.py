"""The settings: the default of each, how it is given, and which values are refused."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, cast

import pytest

from kaserve import Config, ConfigError
from kaserve.config import options, read_environment
from kaserve.options import SECONDS, TIMEOUT, Kind, Option

USER = "ann:$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"

# By setting: the default, another value, and the text for that value. Users rely on all three.
TABLE: dict[str, tuple[Any, Any, str]] = {
    "port": (8000, 0, "0"),
    "bind": (("127.0.0.1",), ("unix:/run/site",), "unix:/run/site"),
    "unix_mode": ("666", "660", "660"),
    "reuse_port": (False, True, "yes"),
    "backlog": (2048, 16, "16"),
    "max_connections": (0, 500, "500"),
    "max_connections_per_address": (0, 20, "20"),
    "directory": (".", "/srv/site", "/srv/site"),
    "listing": (True, False, "no"),
    "zip": (False, True, "yes"),
    "app": (None, "shop:app", "shop:app"),
    "interface": ("auto", "handler", "handler"),
    "handler": (None, "app:hello", "app:hello"),
    "wsgi": (None, "site:app", "site:app"),
    "asgi": (None, "site:app", "site:app"),
    "root_path": ("", "/api", "/api"),
    "lifespan": ("auto", "off", "off"),
    "loop": ("asyncio", "uvloop", "uvloop"),
    "threads": (None, 2, "2"),
    "switch_interval": (0.0005, 0.01, "0.01"),
    "hidden": (False, True, "yes"),
    "symlinks": ("inside", "none", "none"),
    "clean_urls": (False, True, "yes"),
    "spa": (False, True, "yes"),
    "compress": (False, True, "yes"),
    "proxy": ((), ("/api=http://127.0.0.1:9000",), "/api=http://127.0.0.1:9000"),
    "proxy_host": (None, "app.example", "app.example"),
    "proxy_timeout": (60.0, 2.5, "2.5"),
    "proxy_connect_timeout": (5.0, 2.5, "2.5"),
    "proxy_connections": (32, 7, "7"),
    "proxy_insecure": (False, True, "yes"),
    "header": ((), ("X-Mine: a, b",), "X-Mine: a, b"),
    "cors": (False, True, "yes"),
    "cache_control": ((), ("*.html=public, max-age=60",), "*.html=public, max-age=60"),
    "immutable": (False, True, "yes"),
    "type": ((), ("*.log=text/plain",), "*.log=text/plain"),
    "upload": (False, True, "yes"),
    "upload_overwrite": (False, True, "yes"),
    "upload_auth": ((), (USER,), USER),
    "auth": ((), (USER,), USER),
    "auth_file": (None, "users", "users"),
    "qr": (False, True, "yes"),
    "tls_cert": ((), ("cert.pem",), "cert.pem"),
    "tls_key": ((), ("key.pem",), "key.pem"),
    "tls_password_file": (None, "password", "password"),
    "tls_ca": (None, "ca.pem", "ca.pem"),
    "forwarded_allow_ips": ("", "127.0.0.1,10.0.0.0/8", "127.0.0.1,10.0.0.0/8"),
    "proxy_protocol": (False, True, "yes"),
    "protocol": ("HTTP/1.1", "HTTP/1.0", "HTTP/1.0"),
    "keep_alive": (120.0, 2.5, "2.5"),
    "keep_alive_requests": (1000, 7, "7"),
    "keep_alive_time": (3600.0, 60.0, "60"),
    "header_timeout": (30.0, 1.0, "1"),
    "body_timeout": (60.0, 1.0, "1.0"),
    "half_close_timeout": (30.0, 2.5, "2.5"),
    "send_timeout": (60.0, 1.5, "1.5"),
    "tunnel_timeout": (3600.0, 2.5, "2.5"),
    "min_rate": (500, 2048, "2K"),
    "drain_delay": (0.0, 10.0, "10"),
    "graceful_timeout": (30.0, 0.0, "0"),
    "ws_max_size": (16 << 20, 1 << 20, "1M"),
    "ws_ping_interval": (20.0, 5.0, "5"),
    "ws_ping_timeout": (20.0, 2.5, "2.5"),
    "ws_per_message_deflate": (True, False, "no"),
    "limit_request_line": (8190, 4094, "4094"),
    "limit_request_fields": (100, 50, "50"),
    "limit_request_field_size": (8190, 16384, "16K"),
    "limit_request_body": (1 << 30, 10 << 20, "10M"),
    "access_log": (True, False, "no"),
    "access_log_file": (None, "/var/log/site.log", "/var/log/site.log"),
    "log_format": ("auto", "combined", "combined"),
    "error_log": (None, "/var/log/errors.log", "/var/log/errors.log"),
    "status": (None, "/-/status", "/-/status"),
    "status_public": (False, True, "yes"),
    "metrics": (None, "/metrics", "/metrics"),
}

# By setting: the settings that it needs.
NEEDED: dict[str, Any] = {
    "unix_mode": {"bind": "unix:/run/site"},
    "tls_key": {"tls_cert": "cert.pem"},
    "tls_password_file": {"tls_cert": "cert.pem"},
    "tls_ca": {"tls_cert": "cert.pem"},
    **{
        f"proxy_{name}": {"proxy": "/api=http://127.0.0.1:9000"}
        for name in ("host", "timeout", "connect_timeout", "connections", "insecure")
    },
    "upload_overwrite": {"upload": True},
    "upload_auth": {"upload": True},
    "status_public": {"status": "/-/status"},
}

NOT_NUMBERS = ["", " ", "x", "-1", "+1", "1_0", "0x10", "1e3", "1,5", " 1", "1\n", "nan", "inf", "1" * 20]
NOT_NUMBERS += ["\u0665", "\xb2"]  # digits for Python's int(), which no user means
NUMBERS = [name for name, (default, _, _) in TABLE.items() if type(default) in (int, float)]
NAMES = list(TABLE)


def test_immutable_and_uploads_exclude_each_other() -> None:
    """Clients would not see a file that is uploaded again for a year."""
    with pytest.raises(ConfigError, match="immutable cannot be combined with upload"):
        Config(immutable=True, upload=True)


def test_the_table_is_all_there_is() -> None:
    assert [field.name for field in dataclasses.fields(Config)] == list(options()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_defaults(name: str) -> None:
    assert getattr(Config(), name) == TABLE[name][0]


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_an_environment_variable(name: str) -> None:
    _, value, text = TABLE[name]
    values = read_environment({f"KASERVE_{name.upper()}": text, "KASERVE_": "x", "KASERVE_OTHER": "x", name: "x"})
    assert values == {name: value}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_explained(name: str) -> None:
    option = options()[name]
    assert isinstance(option, Option)
    assert option.help
    assert option.group
    assert (option.metavar is None) == isinstance(TABLE[name][0], bool)


def test_several_addresses_in_one_variable() -> None:
    values = read_environment({"KASERVE_BIND": "127.0.0.1, [::1]:80,unix:/run/site"})
    assert values == {"bind": ("127.0.0.1", "[::1]:80", "unix:/run/site")}


def test_values_with_commas_are_on_lines_of_their_own() -> None:
    values = read_environment({"KASERVE_HEADER": "X-One: a, b\nX-Two: 1\n", "KASERVE_AUTH": USER})
    assert values == {"header": ("X-One: a, b", "X-Two: 1"), "auth": (USER,)}
    with pytest.raises(ConfigError, match="must be values on lines of their own"):
        read_environment({"KASERVE_HEADER": "X-One: 1\n\nX-Two: 2"})


@pytest.mark.parametrize("text", ["1", "true", "Yes", "ON"])
def test_yes(text: str) -> None:
    assert read_environment({"KASERVE_REUSE_PORT": text}) == {"reuse_port": True}


@pytest.mark.parametrize("text", ["0", "false", "No", "OFF", ""])
def test_no(text: str) -> None:
    assert read_environment({"KASERVE_ACCESS_LOG": text}) == {"access_log": False}


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("65536", 65536), ("64K", 65536), ("64k", 65536), ("64KiB", 65536), ("1MB", 1 << 20), ("2T", 2 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert read_environment({"KASERVE_LIMIT_REQUEST_BODY": text}) == {"limit_request_body": size}


def test_a_config_is_given_by_name_only_and_stays_as_it_is() -> None:
    with pytest.raises(TypeError):
        Config(8000)  # type: ignore[call-arg]  # what mypy refuses too is refused at run time
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().port = 80  # type: ignore[misc]  # the same


@pytest.mark.parametrize("bind", ["127.0.0.1", ["127.0.0.1"], ("127.0.0.1",)])
def test_addresses_in_any_form(bind: Any) -> None:
    assert Config(bind=bind).bind == ("127.0.0.1",)
    assert hash(Config(bind=bind)) == hash(Config())


class TestWhatCannotBe:
    """Each is refused with one line that names the setting and shows the value, unless it is a secret."""

    @staticmethod
    def refused(name: str, **settings: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            Config(**settings)
        message = str(caught.value)
        assert message.startswith(name)
        assert "\n" not in message
        return message

    @pytest.mark.parametrize("text", NOT_NUMBERS, ids=ascii)
    @pytest.mark.parametrize("name", NUMBERS)
    def test_texts_that_are_no_numbers(self, name: str, text: str) -> None:
        variable = "KASERVE_" + name.upper()
        with pytest.raises(ConfigError) as caught:
            read_environment({variable: text})
        assert str(caught.value).startswith(f"{variable} must be ")
        assert str(caught.value).endswith(f", not {text!r}")

    @pytest.mark.parametrize("name", NUMBERS)
    @pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf])
    def test_numbers(self, name: str, value: float) -> None:
        assert self.refused(f"{name} must be ", **{name: value}).endswith(f", not {value!r}")

    @pytest.mark.parametrize("name", [name for name in NAMES if not isinstance(TABLE[name][1], (str, tuple))])
    def test_the_text_of_a_value_is_not_the_value(self, name: str) -> None:
        message = self.refused(f"{name} must be ", **{name: TABLE[name][2]})
        assert message.endswith(f", not the string {TABLE[name][2]!r}")

    @pytest.mark.parametrize("port", [65536, 1 << 40, 80.5])
    def test_ports(self, port: Any) -> None:
        self.refused("port must be ", port=port)

    @pytest.mark.parametrize(
        "bind",
        ["localhost:http", "localhost:-1", "[::1]:x", "unix:", "fd:", "fd:-1", "fd:x", "h:\u0665"],
    )
    def test_addresses(self, bind: str) -> None:
        for given in (bind, [bind], ("127.0.0.1", bind)):
            assert "must be HOST, HOST:PORT, unix:PATH, unix:@NAME or fd:N" in self.refused("bind ", bind=given)
        with pytest.raises(ConfigError, match=r"^KASERVE_BIND must be HOST"):
            read_environment({"KASERVE_BIND": f"127.0.0.1,{bind}"})

    @pytest.mark.parametrize("bind", ["127.0.0.1:65536", ":65536", "[::1]:65536", "localhost:65536"])
    def test_the_port_of_an_address(self, bind: str) -> None:
        self.refused("the port of bind must be 0 to 65535, not 65536", bind=bind)
        with pytest.raises(ConfigError, match=r"^the port of KASERVE_BIND must be 0 to 65535, not 65536$"):
            read_environment({"KASERVE_BIND": f"127.0.0.1,{bind}"})

    @pytest.mark.parametrize("protocol", ["", "HTTP/1.2", "HTTP/2", "http/1.1", "1.1", "HTTP/0.9"])
    def test_protocols(self, protocol: str) -> None:
        assert "must be HTTP/1.0 or HTTP/1.1" in self.refused("protocol ", protocol=protocol)

    @pytest.mark.parametrize("text", ["localhost", "127.0.0.1,", "10.0.0.1/8", "all"])
    def test_trusted_proxies(self, text: str) -> None:
        self.refused("forwarded_allow_ips must be addresses and networks", forwarded_allow_ips=text)

    def test_links(self) -> None:
        self.refused("symlinks must be inside, all or none, not 'some'", symlinks="some")

    def test_log_formats(self) -> None:
        self.refused("log_format must be auto, pretty, common", log_format="apache")

    @pytest.mark.parametrize("text", ["maybe", "2", "yes please", " "])
    def test_switches(self, text: str) -> None:
        with pytest.raises(ConfigError, match="must be yes or no"):
            read_environment({"KASERVE_ACCESS_LOG": text})

    @pytest.mark.parametrize("text", ["1GG", "K", "1 K", "1.5M", "1iB2", "64\u212a"], ids=ascii)
    def test_sizes(self, text: str) -> None:
        with pytest.raises(ConfigError, match="must be bytes"):
            read_environment({"KASERVE_LIMIT_REQUEST_BODY": text})

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("header", "X"),
            ("header", "Connection: close"),
            ("cache_control", "*.html="),
            ("type", "*.log"),
            ("auth", "ann:secret"),
        ],
    )
    def test_what_the_site_adds(self, name: str, text: str) -> None:
        self.refused(f"{name} must ", **{name: text})
        self.refused(f"{name} must ", **{name: [text]})

    @pytest.mark.parametrize("name", [name for name, (default, _, _) in TABLE.items() if type(default) is int])
    @pytest.mark.parametrize("value", [True, 1.0, None], ids=repr)
    def test_what_is_no_int(self, name: str, value: object) -> None:
        assert self.refused(f"{name} must be an int, not {value!r}", **{name: value})

    @pytest.mark.parametrize("name", [name for name, (default, _, _) in TABLE.items() if type(default) is bool])
    @pytest.mark.parametrize("value", [0, 1, None, ()], ids=repr)
    def test_what_is_no_switch(self, name: str, value: object) -> None:
        self.refused(f"{name} must be True or False, not {value!r}", **{name: value})

    @pytest.mark.parametrize("name", [name for name in NAMES if isinstance(TABLE[name][1], (str, tuple))])
    @pytest.mark.parametrize("value", [5, b"text"], ids=repr)
    def test_what_is_no_text(self, name: str, value: Any) -> None:
        message = self.refused(f"{name} must be a string", **{name: [value] if options()[name].repeatable else value})
        assert message.endswith("" if options()[name].secret else f", not {value!r}")

    def test_what_is_no_sequence(self) -> None:
        self.refused("bind must be a string or several of them, not int", bind=5)

    @pytest.mark.parametrize("secret", ["ann:secret", "secret", "ann:$scrypt$secret", ":secret", "a\x00:secret"])
    def test_a_password_in_the_place_of_a_hash_is_not_repeated(self, secret: str) -> None:
        with pytest.raises(ConfigError) as in_a_variable:
            read_environment({"KASERVE_AUTH": secret})
        with pytest.raises(ConfigError) as between_empty_lines:
            read_environment({"KASERVE_AUTH": f"{USER}\n\n{secret}"})
        for message in (
            self.refused("auth must be USER:HASH", auth=secret),
            self.refused("auth must be USER:HASH", auth=[USER, secret]),
            str(in_a_variable.value),
            str(between_empty_lines.value),
        ):
            assert "secret" not in message

    def test_a_config_is_shown_without_its_users(self) -> None:
        assert USER not in repr(Config(auth=USER))
        assert "port=8000" in repr(Config(auth=USER))

    def test_an_error_names_settings_as_the_user_knows_them(self) -> None:
        with pytest.raises(ConfigError) as between_two:
            Config(upload_overwrite=True)
        with pytest.raises(ConfigError) as of_one:
            Config(directory="{}", port=cast(int, "{}"))
        assert between_two.value.renamed(str.upper) == "UPLOAD_OVERWRITE needs UPLOAD"
        assert of_one.value.renamed(str.upper) == str(of_one.value) == "port must be an int, not the string '{}'"

    def test_uploads(self) -> None:
        self.refused("upload_overwrite needs upload", upload_overwrite=True)

    @pytest.mark.parametrize("name", ["tls_key", "tls_password_file", "tls_ca"])
    def test_tls_without_a_certificate(self, name: str) -> None:
        self.refused(f"{name} needs tls_cert", **{name: "file"})

    @pytest.mark.parametrize("keys", [["a.key"], ["a.key", "b.key", "c.key"]])
    def test_keys_that_are_not_one_for_each_certificate(self, keys: list[str]) -> None:
        self.refused(
            "tls_key must be given once for each tls_cert, or not at all", tls_cert=["a.pem", "b.pem"], tls_key=keys
        )

    def test_two_things_to_serve(self) -> None:
        self.refused("handler cannot be combined with wsgi", handler="app:hello", wsgi="site:app")

    def test_addresses_that_a_setting_has_no_effect_on(self) -> None:
        self.refused("unix_mode needs a Unix socket in bind, such as", unix_mode="600")
        self.refused("reuse_port needs a port", reuse_port=True, bind=["unix:/run/a", "unix:@b"])
        for bind in ("unix:@b", "127.0.0.1"), ("unix:@b", "fd:3"):
            Config(bind=bind, unix_mode="600", reuse_port=True)

    def test_a_port_that_no_address_uses(self) -> None:
        for bind in ["127.0.0.1:8001"], ["[::1]:8001"], ["unix:/run/a"], ["fd:3", "unix:@b", ":8001"]:
            self.refused("port has no effect: each address in bind has its own port", port=9000, bind=bind)
            Config(port=0, bind=bind)
        for bind in ["127.0.0.1"], ["::1"], ["unix:/run/a", "[::1]"]:
            Config(port=9000, bind=bind)

    @pytest.mark.parametrize("name", ["keep_alive_requests", "keep_alive_time"])
    def test_limits_of_connections_that_do_not_persist(self, name: str) -> None:
        self.refused(f"{name} needs keep_alive: without it, each response closes", keep_alive=0, **{name: 5})

    @pytest.mark.parametrize(
        ("rules", "has_unused"),
        [
            (("max-age=1", "*.html=no-cache"), True),
            (("*=max-age=1", "*.html=no-cache"), True),
            (("/*=max-age=1", "max-age=2"), True),
            (("*.html=max-age=1", "*.css=no-cache", " *.html=no-cache"), True),
            (("*.html=no-cache", "max-age=1"), False),
            (("a/*=no-cache", "*=max-age=1"), False),
            (("a*=no-cache", "*a=max-age=1", "**a*=max-age=1"), False),
        ],
    )
    def test_rules_that_are_never_used(self, rules: tuple[str, ...], has_unused: bool) -> None:
        if has_unused:
            self.refused("cache_control has a rule that is never used", cache_control=rules)
        else:
            Config(cache_control=rules)

    def test_types_that_are_never_used(self) -> None:
        self.refused("type has a rule that is never used", type=("*=text/plain", "*.log=text/x-log"))
        self.refused("type has a rule that is never used", type=("*.log=text/plain", "*.log=text/x-log"))
        Config(type=("*.log=text/plain", "*=text/x-log"))

    def test_fingerprints_that_a_rule_for_all_files_overrides(self) -> None:
        for rule in ("max-age=60", "*=max-age=60"):
            self.refused("immutable has no effect with a rule of cache_control", immutable=True, cache_control=rule)
        Config(immutable=True, cache_control="*.html=max-age=60")

    @pytest.mark.parametrize("name", ["limit_request_line", "limit_request_field_size"])
    def test_limits_that_no_request_fits_into(self, name: str) -> None:
        self.refused(f"{name} must be at least 16 bytes, not 15", **{name: 15})

    @pytest.mark.parametrize("name", ["header_timeout", "body_timeout", "send_timeout", "tunnel_timeout"])
    def test_timeouts_that_leave_no_time_at_all(self, name: str) -> None:
        """With 0, each request got a 408 as soon as it had begun."""
        self.refused(f"{name} must be more than 0 seconds, such as 30 or 0.5, not 0", **{name: 0})
        variable = f"KASERVE_{name.upper()}"
        with pytest.raises(
            ConfigError, match=f"^{variable} must be more than 0 seconds, such as 30 or 0.5, not '0.0'$"
        ):
            read_environment({variable: "0.0"})

    @pytest.mark.parametrize("kind", [SECONDS, TIMEOUT])
    def test_each_option_with_seconds_says_what_0_means(self, kind: Kind) -> None:
        texts = {name: option.help for name, option in options().items() if option.kind is kind}
        assert len(texts) >= 3
        says = r"Must be more than 0\.$" if kind is TIMEOUT else r"\b0 (is|closes) "
        assert {name for name, text in texts.items() if not re.search(says, text)} == set()


class TestWhatItMeans:
    """How settings become the limits and deadlines of the lower layers."""

    def test_limits(self) -> None:
        limits = Config(limit_request_line=100, limit_request_fields=3, limit_request_field_size=50).limits
        assert (limits.request_line, limits.fields, limits.field_size, limits.body) == (100, 3, 50, 1 << 30)
        assert limits.head == 65536
        assert Config(limit_request_field_size=1 << 20).limits.head > 1 << 20

    def test_deadlines(self) -> None:
        settings: dict[str, Any] = {"keep_alive": 1.0, "header_timeout": 2.0, "body_timeout": 3.0, "send_timeout": 4.0}
        deadlines = Config(**settings, keep_alive_time=5.0).deadlines
        assert settings == {name: getattr(deadlines, name) for name in settings}
        assert deadlines.age == 5.0

    def test_0_is_no_limit_of_age_as_it_is_no_limit_of_requests(self) -> None:
        """With 0 as an age, each connection would close after its first response."""
        assert Config(keep_alive_time=0).deadlines.age == math.inf

    @pytest.mark.parametrize(("protocol", "minor"), [("HTTP/1.0", 0), ("HTTP/1.1", 1)])
    def test_keep_alive(self, protocol: str, minor: int) -> None:
        config = Config(keep_alive=5, keep_alive_requests=7, protocol=protocol)
        keep_alive = config.new_keep_alive()
        assert (keep_alive.timeout, keep_alive.requests, keep_alive.minor) == (5, 7, minor)
        assert keep_alive.enabled
        assert config.new_keep_alive() is not keep_alive  # each server switches its own

    def test_no_keep_alive(self) -> None:
        assert not Config(keep_alive=0).new_keep_alive().enabled
