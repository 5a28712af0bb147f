"""The command line: its options, its exit codes, and the banner."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kaserve
from kaserve import Config
from kaserve.cli.arguments import read_config
from kaserve.cli.banner import banner, print_stopped
from kaserve.cli.load import Loaded
from kaserve.cli.main import main
from kaserve.config import options
from kaserve.effects import Runner, Served, Way
from kaserve.probe.terminal import takes_color
from tests.test_config import NAMES, NEEDED, TABLE, USER
from tests.tools.server import ROOT, Process, connect, environment, hello, request, run, serving
from tests.tools.tls import make_certificate

OTHER_USER = USER.replace("ann:", "bob:")

APPLICATION = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fault":
        print("said on wsgi.errors", file=environ["wsgi.errors"])
        raise LookupError("the fault")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]

class Factory:
    @staticmethod
    def make():
        return app
"""

BUILD = {"pure": "pure Python", "compiled": "compiled"}[kaserve.IMPLEMENTATION]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def given(name: str) -> list[str]:
    """The other value of the table, as a user writes it, without the settings that it needs."""
    default, _, text = TABLE[name]
    if name == "port":
        return [text]
    if isinstance(default, bool):
        return ["--no-" + flag(name)[2:]] if default else [flag(name)]
    return [flag(name), text]


@pytest.fixture
def make_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], str]:
    """Makes a module of some source that can be imported, and returns its name, which is this test's own."""

    def make(source: str) -> str:
        name = f"app{abs(hash(request.node.name))}"
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return make


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and the one line that a command line is refused with."""
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(main(arguments))  # or argparse itself
    code = stop.value.code
    assert isinstance(code, int)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"kaserve: [^\n]+\n", shown.err), shown.err
    return code, shown.err.removeprefix("kaserve: ").rstrip("\n")


class TestOptions:
    @pytest.mark.parametrize("name", NAMES)
    def test_each_setting(self, name: str) -> None:
        needed = NEEDED.get(name, {})
        config = read_config([*given(name), *(text for other in needed for text in given(other))], {})
        assert config == Config(**{name: TABLE[name][1]}, **needed)

    def test_none_is_the_defaults(self) -> None:
        assert read_config([], {}) == Config()

    def test_as_users_of_http_server_write_them(self) -> None:
        config = read_config(["9000", "-b", "::1", "-d", "site", "-p", "HTTP/1.0"], {})
        assert config == Config(port=9000, bind="::1", directory="site", protocol="HTTP/1.0")
        assert read_config(["--bind=0.0.0.0", "--directory=site", "80"], {}).port == 80

    def test_addresses_add_up(self) -> None:
        config = read_config(["-b", "127.0.0.1", "--bind", "unix:/run/site", "-b", "[::1]:80"], {})
        assert config.bind == ("127.0.0.1", "unix:/run/site", "[::1]:80")

    @pytest.mark.parametrize(
        "arguments",
        ["-H X-Mine a", "-H X-Mine:a", "--header X-Mine a", "--header X-Mine:a", "--header=X-Mine:a"],
    )
    def test_fields_as_http_server_has_them_too(self, arguments: str) -> None:
        config = read_config([*arguments.split(), "8080", "-H", "X-More", "-1 : b"], {})
        assert (config.header, config.port) == (("X-Mine:a", "X-More:-1 : b"), 8080)

    @pytest.mark.parametrize("name", NAMES)
    def test_an_option_beats_the_variable_which_beats_the_default(self, name: str) -> None:
        default, value, text = TABLE[name]
        needed = {"KASERVE_" + other.upper(): TABLE[other][2] for other in NEEDED.get(name, {})}
        variables = {"KASERVE_" + name.upper(): text, **needed}
        assert getattr(read_config([], variables), name) == value
        if default == ():  # an empty default cannot be given, so a variable with another value has to lose
            others = {"proxy": "http://a", "header": "X: 1", "cache_control": "no-store", "type": "*.a=b/c"}
            variables["KASERVE_" + name.upper()] = others.get(name, OTHER_USER)
        if name == "threads":
            default, options = 7, [flag(name), "7"]
        elif default is None:
            default = "another.example" if name == "proxy_host" else "/another"  # which is a path as well
            options = [flag(name), default]
        elif isinstance(default, bool):
            options = [flag(name)] if default else ["--no-" + flag(name)[2:]]
        else:
            if default == ():
                default = (text,)
            text = default[0] if isinstance(default, tuple) else str(default)
            options = [text] if name == "port" else [flag(name), text]
        assert getattr(read_config(options, variables), name) == default

    @pytest.mark.parametrize("option", ["--help", "--help-all"])
    @pytest.mark.parametrize("program", ["/usr/bin/kaserve", "kaserve/__main__.py"])
    def test_help_fits_on_a_terminal(
        self, program: str, option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "argv", [program])
        for columns, most in ((80, 80), (200, 110)):
            monkeypatch.setenv("COLUMNS", str(columns))
            with pytest.raises(SystemExit):
                main([option])
            assert max(map(len, capsys.readouterr().out.splitlines())) <= most

    def test_help_all_shows_every_option_with_its_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main(["--help-all"])
        assert stop.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        for name, option in options().items():
            assert flag(name) in text
            assert option.help in text
            default = TABLE[name][0]
            if not isinstance(default, (bool, tuple)) and default is not None:
                shown = f"{default:g}" if isinstance(default, float) else str(default)
                assert (f"{option.help} (default: {shown})" if shown else option.help) in text
        assert "KASERVE_KEEP_ALIVE" in text

    def test_each_description_is_a_sentence(self) -> None:
        for name, option in options().items():
            assert option.help[0].isupper(), name
            assert option.help.endswith("."), name

    def test_help_is_short_and_true(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["kaserve"])
        with pytest.raises(SystemExit):
            main(["--help"])
        text = capsys.readouterr().out
        assert len(text.splitlines()) < 60
        shown = set(re.findall(r"^  (?:-\w, )?--(?:no-)?([\w-]+)", text, re.MULTILINE))
        assert len(shown) == 16
        assert {name.replace("-", "_") for name in shown} <= set(options())
        for name, option in options().items():  # with the defaults of --help-all
            if name.replace("_", "-") in shown and isinstance(option.default, (int, float)) and option.metavar:
                assert f"(default: {option.default:g})" in text

    @pytest.mark.parametrize(
        ("program", "name"), [("/usr/bin/kaserve", "kaserve"), ("/x/kaserve/__main__.py", "python -m kaserve")]
    )
    @pytest.mark.parametrize("option", ["--help", "--help-all"])
    def test_the_usage_says_what_was_typed(
        self, program: str, name: str, option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "argv", [program])
        with pytest.raises(SystemExit):
            main([option])
        assert capsys.readouterr().out.startswith(f"usage: {name} [PORT | DIR | MODULE:APP]... [options]\n")

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main(["--version"])
        assert stop.value.code == 0
        assert capsys.readouterr().out == f"kaserve {kaserve.__version__} ({BUILD})\n"


class TestColor:
    def test_on_a_terminal_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", Screen(True))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert takes_color(sys.stdout)
        for variable, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
            with monkeypatch.context() as context:
                context.setenv(variable, value)
                assert not takes_color(sys.stdout)
        monkeypatch.setattr(sys, "stdout", Screen(False))
        assert not takes_color(sys.stdout)

    def test_where_to_look(self) -> None:
        with serving(status="/-/status", metrics="/metrics") as server:
            url = server.url
            loaded = Loaded(hello, Way(Runner.PROGRAM, Served.HANDLER), "shop:hello")
            lines = banner(server, loaded).splitlines()
            assert lines[0].endswith(" serves handler shop:hello")
            assert f"  status: {url}-/status" in lines
            assert f"  metrics: {url}metrics" in lines
            assert f"  at \x1b[1;36m{url}\x1b[0m" in banner(server, loaded, color=True).splitlines()
            assert "\x1b" not in banner(server, loaded)


class TestStopped:
    def test_a_person_at_a_terminal_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for is_terminal, text in ((True, "\rstopped\n"), (False, "")):
            screen = Screen(is_terminal)
            monkeypatch.setattr(sys, "stdout", screen)
            print_stopped()
            assert screen.getvalue() == text

    def test_a_closed_stdout_is_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = Screen(True)
        screen.close()
        monkeypatch.setattr(sys, "stdout", screen)
        print_stopped()
        monkeypatch.setattr(sys, "stdout", None)
        print_stopped()


class Screen(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


class TestRefusals:
    """Exit code 2: an option is not accepted; 3: a resource is unavailable; 4: an application cannot be imported."""

    @pytest.fixture(autouse=True)
    def _no_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in NAMES:
            monkeypatch.delenv("KASERVE_" + name.upper(), raising=False)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("http", "'http' is not a port, not a directory in "),
            ("65536", "PORT must be a port from 0 to 65535, not '65536'"),
            ("-1", "PORT must be a port from 0 to 65535, not '-1'"),
            ("8000 9000", "two ports are given, 8000 and 9000; give one, and --bind HOST:PORT for a second"),
            ("8000 --port 9000", "give 8000 or --port 9000, not both"),
            ("--nonsense", "there is no option --nonsense; kaserve --help-all lists all options"),
            ("--thraeds 5", "there is no option --thraeds; did you mean --threads?"),
            # An abbreviation is not accepted: it would stop working when an option is added that begins alike.
            ("--keep 5", "there is no option --keep; did you mean --keep-alive?"),
            ("--keep-alive", "--keep-alive needs a value: --keep-alive SECONDS"),
            ("--cors=yes", "--cors is a switch and accepts no value"),
            ("--port x", "--port must be a whole number, not 'x'"),
            ("-p 8080", "--protocol must be HTTP/1.0 or HTTP/1.1, not '8080'; for the port, write kaserve 8080"),
            ("--keep-alive soon", "--keep-alive must be seconds, such as 30 or 0.5, not 'soon'"),
            ("--keep-alive nan", "--keep-alive must be seconds, such as 30 or 0.5, not 'nan'"),
            ("--keep-alive-requests 1.5", "--keep-alive-requests must be a whole number, not '1.5'"),
            ("--limit-request-body 1X", "--limit-request-body must be bytes, such as 65536, 64K or 1G, not '1X'"),
            ("--limit-request-line 5", "--limit-request-line must be at least 16 bytes, not '5'"),
            ("-p HTTP/2", "--protocol must be HTTP/1.0 or HTTP/1.1, not 'HTTP/2'"),
            (
                "--log-format apache",
                "--log-format must be auto, pretty, common, combined, json, or made of atoms such as "
                "'%(h)s %(r)s %(s)s', not 'apache'",
            ),
            ("--no-access-log --access-log-file x", "--access-log-file needs --access-log"),
            ("-H X", "--header must be NAME:VALUE, as in 'X-Robots-Tag: noindex', not 'X'"),
            ("-H", "--header needs a value: --header NAME:VALUE"),
            (
                "-H Connection close",
                "--header must not set Connection, which kaserve sets itself",
            ),
            ("--upload-overwrite", "--upload-overwrite needs --upload"),
            ("--upload --handler a:b", "--upload has no effect with --handler: it is about the files of a directory"),
            ("--upload --wsgi a:b", "--upload has no effect with --wsgi: it is about the files of a directory"),
            ("-b fd:x", "--bind must be HOST, HOST:PORT, unix:PATH, unix:@NAME or fd:N, not 'fd:x'"),
            ("-b h:99999", "the port of --bind must be 0 to 65535, not 99999"),
            ("-b [::1]:65536", "the port of --bind must be 0 to 65535, not 65536"),
            ("-b 127.0.0.1:x", "--bind must be HOST, HOST:PORT, unix:PATH, unix:@NAME or fd:N, not '127.0.0.1:x'"),
            ("-b [::1:99999", "--bind must be HOST, HOST:PORT, unix:PATH, unix:@NAME or fd:N, not '[::1:99999'"),
            ("--handler app", "--handler must be MODULE:FUNCTION, not 'app'"),
            ("--handler :function", "--handler must be MODULE:FUNCTION, not ':function'"),
            ("--wsgi app", "--wsgi must be MODULE:APP, not 'app'"),
            ("--wsgi app:", "--wsgi must be MODULE:APP, not 'app:'"),
            ("--wsgi app:()", "--wsgi must be MODULE:APP, not 'app:()'"),
            (
                "--wsgi app:f --handler app:g",
                "--handler cannot be combined with --wsgi: only one can be served",
            ),
            ("a:f --wsgi b:g", "a:f cannot be combined with --wsgi: only one can be served"),
            ("--interface wsgi --wsgi b:g", "--interface cannot be combined with --wsgi: each says how"),
            ("--interface wsgi", "--interface has no effect on a directory: it is about an application"),
            ("--interface cgi a:f", "--interface must be auto, wsgi, handler or asgi, not 'cgi'"),
            ("--interface wsgi a:f --upload", "--upload has no effect with a:f, which is a WSGI application: it is"),
            ("--threads many", "--threads must be a whole number, not 'many'"),
            ("--threads -1", "--threads must be 0 or more, not '-1'"),
            ("--keep-alive -1", "--keep-alive must be 0 or more seconds, such as 30 or 0.5, not '-1'"),
            ("--header-timeout -0.5", "--header-timeout must be more than 0 seconds, such as 30 or 0.5, not '-0.5'"),
            ("--min-rate -1", "--min-rate must be 0 or more bytes, such as 65536, 64K or 1G, not '-1'"),
            ("--limit-request-line -1", "--limit-request-line must be at least 16 bytes, not '-1'"),
        ],
    )
    def test_bad_values(self, arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
        code, line = refused(capsys, *arguments.split())
        assert code == 2
        assert line.startswith(message)

    def test_bad_variables(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KASERVE_KEEP_ALIVE", "soon")
        assert refused(capsys) == (2, "KASERVE_KEEP_ALIVE must be seconds, such as 30 or 0.5, not 'soon'")

    def test_a_rule_is_worded_with_what_the_user_gave(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KASERVE_TLS_KEY", "key.pem")
        assert refused(capsys) == (2, "KASERVE_TLS_KEY needs --tls-cert")
        assert refused(capsys, "--tls-key", "other.pem") == (2, "--tls-key needs --tls-cert")

    @pytest.mark.parametrize("user", ["ann:hunter2", "hunter2", "ann:$hunter2"])
    def test_a_password_in_the_place_of_a_hash_is_not_repeated(
        self, user: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        (tmp_path / "users").write_text(user)
        for arguments in (("--auth", user), ("--auth-file", str(tmp_path / "users"))):
            code, line = refused(capsys, *arguments)
            assert code == 2
            assert "hunter2" not in line
            assert "kaserve --hash-password" in line

    def test_a_port_in_use(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving() as server:
            assert isinstance(server.address, tuple)
            port = server.address[1]
            code, line = refused(capsys, str(port), str(Path(__file__).parent))
            assert code == 3
            message = f"port {port} is in use on 127.0.0.1; try another: kaserve PORT {Path(__file__).parent}"
            assert re.sub(r"kaserve \d+", "kaserve PORT", line) == message

    @pytest.mark.parametrize(
        ("bind", "message"),
        [
            ("198.51.100.1", "198.51.100.1 is not an address of this machine; --bind 0.0.0.0 listens on all"),
            ("no.such.host.invalid", "the host name no.such.host.invalid is unknown; --bind must be"),
            ("a..b", "cannot listen on a..b:0: "),
            ("unix:/no/such/directory/socket", "cannot listen on unix:/no/such/directory/socket: No such file"),
        ],
    )
    def test_an_address_that_is_not_ours(self, bind: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
        code, line = refused(capsys, "0", "-b", bind)
        assert (code, line[: len(message)]) == (3, message)

    def test_a_missing_directory(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        missing = str(tmp_path / "missing")
        assert refused(capsys, "-d", missing) == (3, f"cannot serve {missing!r}: No such file or directory")

    def test_a_directory_that_is_a_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        hint = f"; serve the directory it is in: {Path(__file__).parent}"
        assert refused(capsys, "-d", __file__) == (3, f"cannot serve {__file__!r}: Not a directory{hint}")

    def test_a_directory_with_a_slip(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "dist").mkdir()
        monkeypatch.chdir(tmp_path)
        message = "cannot serve 'dits': No such file or directory; did you mean dist?"
        assert refused(capsys, "-d", "dits") == (3, message)

    @pytest.mark.parametrize(
        ("content", "code", "message"),
        [
            (None, 3, "cannot read the --auth-file {}: No such file or directory"),
            (b"\xff", 3, "cannot read the --auth-file {}: it is not text in UTF-8"),
            (b"# nobody\n\n", 2, "--auth-file: {path} contains no user"),
            (b"# one\nann:secret\n", 2, "--auth-file: line 2 of {path} must be USER:HASH"),
        ],
    )
    def test_files_of_users(
        self, content: bytes | None, code: int, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        path = tmp_path / "users"
        if content is not None:
            path.write_bytes(content)
        found, line = refused(capsys, "-d", str(tmp_path), "--auth-file", str(path))
        assert (found, line.startswith(message.format(repr(str(path)), path=path))) == (code, True), line

    def test_a_certificate_without_a_key(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """The option alone is named, not the keyword of a program as well."""
        made = make_certificate(tmp_path, "site")
        code, line = refused(capsys, "-d", str(tmp_path), "--tls-cert", made.cert)
        assert code == 3
        assert line.endswith(": there is no private key in it; give the file that has it with --tls-key")

    @pytest.mark.parametrize("flag", ["--acces-log-file", "--keepalive-timeout", "--hos", "--certfil"])
    def test_no_names_of_other_servers_are_suggested(self, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main([flag, "x"])
        found = re.search(r"did you mean (--[a-z-]+)\?", capsys.readouterr().err)
        assert found is None or found[1][2:].replace("-", "_") in options()

    def test_a_log_format_with_an_unknown_atom(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert refused(capsys, "--log-format", "%(Q)s") == (
            2,
            "--log-format has %(Q)s, which kaserve does not support; the atoms are "
            "h l u t r m U q H s B b f a T M D L p {NAME}i {NAME}o",
        )

    def test_a_password_that_is_none(self) -> None:
        process = run("--hash-password", input="\n")
        assert (process.returncode, process.stderr) == (2, "kaserve: the password is empty\n")

    def test_no_library_for_codes(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "segno", None)
        assert refused(capsys, "--qr") == (2, "--qr needs the package segno: pip install segno")

    @pytest.mark.parametrize(
        ("options", "code"), [(["x"], 2), (["-d", "/no/such/directory"], 3), (["--handler", "no_such_module:f"], 4)]
    )
    def test_the_exit_code_of_the_process(self, options: list[str], code: int) -> None:
        process = run(*options)
        assert process.returncode == code
        assert process.stdout == ""
        assert process.stderr.startswith("kaserve: ")
        assert process.stderr.count("\n") == 1


HANDLER = """
from threading import current_thread
from kaserve import Response
def handler(request):
    return Response.text(current_thread().name)
"""


class TestServing:
    @pytest.mark.parametrize(
        ("options", "what"), [(["--threads", "2"], " (2 threads)"), (["--threads", "0"], ""), ([], "")]
    )
    def test_a_handler(self, tmp_path: Path, options: list[str], what: str) -> None:
        (tmp_path / "my_handler.py").write_text(HANDLER)
        path = os.pathsep.join((str(tmp_path), str(ROOT)))
        target = "my_handler:handler"
        with Process("0", "--handler", target, *options, PYTHONPATH=path) as process, process.connect() as client:
            assert process.banner.splitlines()[0].endswith(f" serves handler {target}{what}")
            assert client.ask().body == (b"kaserve worker 1" if what else b"MainThread")

    @pytest.mark.parametrize(("options", "what"), [(["--threads", "0"], "no threads"), ([], "4 threads")])
    @pytest.mark.parametrize("target", ["site_app:app", "site_app:Factory.make()"])
    def test_an_application(self, tmp_path: Path, target: str, options: list[str], what: str) -> None:
        (tmp_path / "site_app.py").write_text(APPLICATION)
        path = os.pathsep.join((str(tmp_path), str(ROOT)))
        with Process("0", "--wsgi", target, *options, PYTHONPATH=path) as process, process.connect() as client:
            assert process.banner.splitlines()[0].endswith(f" serves WSGI application {target} ({what})")
            assert client.ask().body == b"hello"
            answer = client.ask("/fault")
            assert (answer.status, answer.persists) == (500, True)
            assert client.ask().body == b"hello"
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            assert "the handler failed on <Request GET /fault HTTP/1.1>" in process.stderr
            assert "LookupError: the fault" in process.stderr
            assert "said on wsgi.errors" in process.stderr

    def test_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "index.html").write_text("<p>hello</p>")
        with Process("0", "-d", str(tmp_path), "--keep-alive", "5", "--keep-alive-requests", "0") as process:
            with process.connect() as client:
                answer = client.ask()
                assert (answer.status, answer.body) == (200, b"<p>hello</p>")
                assert answer.value("keep-alive") == "timeout=5"
            assert process.banner.splitlines() == [
                f"kaserve {kaserve.__version__} ({BUILD}) serves directory {tmp_path}",
                f"  at {process.url}",
                "  keep-alive: 5 s idle, at most 3600 s per connection (HTTP/1.1)",
                "  Ctrl-C stops it",
            ]
            process.signal(signal.SIGTERM)
            assert process.wait() == 0

    def test_a_handler_on_several_addresses(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        with Process(
            *("0", "--handler", "tests.tools.server:hello", "-b", "127.0.0.1", "-b", f"unix:{path}"),
            *("-p", "HTTP/1.0", "--no-access-log"),
        ) as process:
            what, at, also_at, keep_alive, _ = process.banner.splitlines()
            assert what.endswith(" serves handler tests.tools.server:hello")
            assert at.startswith("  at http://127.0.0.1:")
            assert also_at == f"  at unix:{path}"
            assert keep_alive == "  keep-alive: 120 s idle, at most 1000 requests and 3600 s per connection (HTTP/1.0)"
            for address in (process.address, str(path)):
                with connect(address) as client:
                    assert client.ask().body == b"hello"
            assert process.stderr == ""

    def test_by_variables_alone(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"content")
        with Process(KASERVE_PORT="0", KASERVE_DIRECTORY=str(tmp_path), KASERVE_KEEP_ALIVE="0") as process:
            assert "  keep-alive: off (HTTP/1.1)\n" in process.banner
            with process.connect() as client:
                answer = client.ask("/file")
                assert (answer.body, answer.persists) == (b"content", False)
                assert client.is_closed

    def test_an_option_beats_the_variable(self) -> None:
        with Process("0", "--keep-alive", "7", KASERVE_KEEP_ALIVE="0", KASERVE_PORT="1") as process:
            assert "  keep-alive: 7 s idle" in process.banner
            with process.connect() as client:
                assert client.ask(method="OPTIONS").value("keep-alive") == "timeout=7, max=999"

    def test_a_site_with_everything(self, tmp_path: Path) -> None:
        """Files, uploads, users and CORS together, from the inside to the outside."""
        (tmp_path / "app.3f9a1c2b.js").write_text("1")
        hashed = run("--hash-password", input="secret\n")
        assert (hashed.returncode, hashed.stderr) == (0, "")
        users = tmp_path / "users"
        users.write_text(f"# who may come in\n\nann:{hashed.stdout}")
        ann = "Authorization: Basic YW5uOnNlY3JldA=="
        with (
            Process(
                *("0", "-d", str(tmp_path), "--upload", "--cors", "-H", "X-Mine", "1", "--auth-file", str(users)),
                *("--cache-control", "*.js=no-cache"),
            ) as process,
            process.connect() as client,
        ):
            preflight = client.ask("/", "Access-Control-Request-Method: GET", method="OPTIONS")
            stranger = client.ask("/")
            client.send(request("PUT", "/new", ann, "Content-Length: 3") + b"new")
            put = client.answer()
            get = client.ask("/app.3f9a1c2b.js", ann)
            listing = client.ask("/", ann)
            missing = client.ask("/none", ann)
            answers = [preflight, stranger, put, get, listing, missing]
            assert [answer.status for answer in answers] == [204, 401, 201, 200, 200, 404]
            assert all(answer.value("access-control-allow-origin") == "*" for answer in answers)
            assert all(answer.value("x-mine") == "1" for answer in answers[1:])
            assert get.value("cache-control") == "no-cache"
            assert b"multipart/form-data" in listing.body
            assert process.banner.splitlines()[-3:-1] == [
                "  accepts uploads",
                "  asks for a password, which is sent unencrypted: TLS is off",
            ]
        assert (tmp_path / "new").read_bytes() == b"new"

    def test_a_handler_with_everything(self) -> None:
        with (
            Process(
                "0", "--handler", "tests.tools.server:hello", "--cors", "-H", "X-Mine:1", "--auth", USER
            ) as process,
            process.connect() as client,
        ):
            stranger = client.ask()
            answer = client.ask("/", "Authorization: Basic YW5uOnBhc3N3b3Jk")
            for each, status in ((stranger, 401), (answer, 200)):
                assert (each.status, each.value("x-mine"), each.value("access-control-allow-origin")) == (
                    status,
                    "1",
                    "*",
                )

    def test_the_access_log_is_on_stderr(self) -> None:
        with Process("0", "--handler", "tests.tools.server:hello") as process:
            with process.connect() as client:
                client.ask("/one")
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            assert re.fullmatch(r'127\.0\.0\.1 - - \[[^]]+\] "GET /one HTTP/1\.1" 200 5\n', process.stderr)

    def test_a_directory_whose_name_is_not_utf_8(self, tmp_path: Path) -> None:
        directory = bytes(tmp_path) + b"/caf\xe9"
        try:
            Path(directory.decode(errors="surrogateescape")).mkdir()
        except OSError:
            pytest.skip("this file system does not allow such names")
        name = directory.decode(errors="surrogateescape")
        with Process("0", "-d", name, PYTHONIOENCODING="utf-8:strict") as process, process.connect() as client:
            assert f"serves directory {tmp_path}/caf\\xe9\n" in process.banner
            assert client.ask().status == 200

    def test_a_handler_with_a_fault_shows_its_traceback_in_the_log_alone(self, tmp_path: Path) -> None:
        (tmp_path / "faulty.py").write_text("def handler(request):\n    raise LookupError('secret')\n")
        path = f"{tmp_path}:{environment()['PYTHONPATH']}"
        with Process("0", "--handler", "faulty:handler", PYTHONPATH=path) as process, process.connect() as client:
            answers = client.ask(), client.ask()
            assert [answer.status for answer in answers] == [500, 500]
            assert b"secret" not in answers[0].body
            process.signal(signal.SIGTERM)
            client.close()
            assert process.wait() == 0
            assert process.stderr.count("LookupError: secret") == 2


def test_the_library_example_of_the_package() -> None:
    """The lines that `help(kaserve)` shows."""
    import doctest

    failed, attempted = doctest.testmod(kaserve)
    assert (failed, attempted > 0) == (0, True)
