"""Added fields: what may be given, which names get what, and handlers around handlers."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.handlers import Files
from kaserve.handlers.middleware.headers import (
    HeaderMiddleware,
    Preflight,
    SiteHeaders,
    is_fingerprinted,
    parse_field,
    parse_rule,
)
from kaserve.http.errors import HTTPError
from kaserve.http.handler import BaseHandler, FunctionHandler, HandlerResult
from kaserve.http.messages import FieldLine, Request, Response
from kaserve.http.wire import encode_head
from tests.tools.files import ask, parse, write

NOSNIFF = ("X-Content-Type-Options", "nosniff")
IMMUTABLE = "public, max-age=31536000, immutable"


class TestFields:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("X-Mine: 1", ("X-Mine", "1")),
            ("X-Mine:1", ("X-Mine", "1")),
            ("x-mine: \t a: b \t", ("x-mine", "a: b")),
            ("X-Empty:", ("X-Empty", "")),
            ("X-Latin: caf\xe9", ("X-Latin", "caf\xe9")),
            ("Cache-Control: no-store", ("Cache-Control", "no-store")),
            ("Vary: Origin", ("Vary", "Origin")),
        ],
    )
    def test_given(self, text: str, line: FieldLine) -> None:
        assert parse_field(text) == line

    @pytest.mark.parametrize(
        "text",
        ["", "X", ":", ": 1", "X Y: 1", "X : 1", "X\n: 1", "X: a\r\nY: b", "X: a\nb", "X: a\0", "X: \u20ac", "\xc9: 1"],
        ids=ascii,
    )
    def test_no_fields(self, text: str) -> None:
        with pytest.raises(ValueError, match="takes NAME:VALUE"):
            parse_field(text)

    @pytest.mark.parametrize(
        "name",
        """
        Content-Length transfer-encoding CONNECTION Keep-Alive Upgrade TE Trailer Date Content-Type Content-Range ETag
        Last-Modified Host
        """.split(),
    )
    def test_what_every_answer_says_for_itself(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"cannot set {name}"):
            parse_field(f"{name}: 1")

    @given(st.text(max_size=20))
    def test_whatever_is_taken_can_be_sent(self, text: str) -> None:
        try:
            line = parse_field(text)
        except ValueError:
            return
        encode_head([line])


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "path", "value"),
        [
            ("no-store", b"a/b.html", "no-store"),
            ("max-age=60", b"a", "max-age=60"),
            ("public, max-age=60,immutable", b"a", "public, max-age=60,immutable"),
            ('private="set-cookie, x.y", no-cache', b"a", 'private="set-cookie, x.y", no-cache'),
            ("*.html=no-cache", b"index.html", "no-cache"),
            ("*.html=no-cache", b"docs/index.html", "no-cache"),
            ("*.html=no-cache", b"index.htm", None),
            ("*.html=no-cache", b"a.html/b", None),
            ("*.HTML=no-cache", b"index.html", None),
            ("sw.js=max-age=0", b"deep/sw.js", "max-age=0"),
            ("/sw.js=max-age=0", b"deep/sw.js", None),
            ("/sw.js=max-age=0", b"sw.js", "max-age=0"),
            ("assets/*=max-age=60", b"assets/deep/a.js", "max-age=60"),
            ("assets/*=max-age=60", b"other/assets/a.js", None),
            ("*.[jc]ss = max-age=60", b"a.css", "max-age=60"),
            ("*=no-store", b"\xff\xfe", "no-store"),
            ("*=no-store", b"", "no-store"),  # the listing of the root
            ("*/=no-store", b"docs/", "no-store"),
            ("*.html=no-store", b"docs.html/", None),
        ],
    )
    def test_which_names(self, rule: str, path: bytes, value: str | None) -> None:
        fields = dict(SiteHeaders(cache_control=[parse_rule(rule)]).of_file(path).whole)
        assert fields.get("Cache-Control") == value

    @pytest.mark.parametrize(
        "text", ["", "=", "*.html=", "no store", "max-age=1;x", "a, ,b", "a,", "no-cache\r\n", "\xe9"]
    )
    def test_no_rules(self, text: str) -> None:
        with pytest.raises(ValueError, match="takes DIRECTIVES or PATTERN=DIRECTIVES"):
            parse_rule(text)

    def test_the_first_that_matches_is_the_one(self) -> None:
        rules = [parse_rule(text) for text in ("*.html=no-cache", "a.*=max-age=1", "no-store")]
        additions = SiteHeaders(cache_control=rules)
        found = [dict(additions.of_file(path).whole)["Cache-Control"] for path in (b"a.html", b"a.css", b"b.css")]
        assert found == ["no-cache", "max-age=1", "no-store"]

    def test_fingerprinted_names_when_no_rule_speaks_of_them(self) -> None:
        path = b"assets/app.3f9a1c2b.js"
        some = SiteHeaders(cache_control=[parse_rule("*.html=no-cache")])
        every = SiteHeaders(cache_control=[parse_rule("no-cache")])
        assert ("Cache-Control", IMMUTABLE) in some.of_file(path).whole
        assert ("Cache-Control", "no-cache") in every.of_file(path).whole
        assert dict(SiteHeaders(immutable=False).of_file(path).whole) == dict([NOSNIFF])

    def test_what_is_for_users_is_for_no_cache_between(self) -> None:
        """RFC 9111 §3.5."""
        fields = dict(SiteHeaders(private=True).of_file(b"app.3f9a1c2b.js").whole)
        assert fields["Cache-Control"] == "private, max-age=31536000, immutable"

    def test_a_field_that_is_given_stands_alone(self) -> None:
        given = [
            ("cache-control", "private"),
            ("x-content-type-options", "none"),
            ("Access-Control-Allow-Origin", "null"),
        ]
        additions = SiteHeaders(given, cors=True, cache_control=[parse_rule("no-store")])
        names = [name.lower() for name, _ in additions.of_file(b"app.3f9a1c2b.js").whole]
        assert sorted(names) == sorted({*names})
        assert set(given) <= set(additions.of_file(b"app.3f9a1c2b.js").whole)


@pytest.mark.parametrize(
    "name",
    """
    app.3f9a1c2b.js app-3f9a1c2b.js main.8e7a2c1b.chunk.js bundle.d7400c89.min.js base.27e20196a850.css app-BdHfA8Qz.js
    index-DiwrgT4d.css chunk-5XKQ2ABC.js logo.0a1b2c3d4e5f60718293.svg 0a1b2c3d4e5f60718293.png app.3f9a1c2b.js.map
    main.min.0f4d2a8b6c0e1f3a5b7c9d0e2f4a6b8c0d1e3f5a7b9c0d2e4f6a8b0c1d3e5f7a.css
    font-a1b2c3d4.woff2 app.3f9a1c2b.js.br
    """.split(),
)
def test_fingerprinted(name: str) -> None:
    assert is_fingerprinted(name)


@pytest.mark.parametrize(
    "name",
    """
    app.js jquery-3.7.1.min.js bootstrap-5.3.0-alpha1.css photo-20240115.jpg report-20240115a.css feed-feed2024.js
    deadbeef.js app-deadbeef.css app.12345678.js x-README22.txt version-Version2.js demo-Html5App.js font-JavaDocs.js
    3f9a1c2b.js page.3f9a1c2b.html data.3f9a1c2b data.3f9a1c2b.tar .3f9a1c2b.js app.3f9a1c2.js app.3F9a1C2B.html
    a-550e8400-e29b-41d4-a716-44665544000a.jpg IMG-WA0012.jpg IMG_20240115_123456.jpg font-awesome.min.css
    """.split(),
)
def test_not_fingerprinted(name: str) -> None:
    assert not is_fingerprinted(name)


@given(st.text(max_size=300))
def test_any_name(name: str) -> None:
    assert is_fingerprinted(name + ".html") is False


class TestFiles:
    """Where the lines stand: with content, with a 304, with everything else."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> Any:
        write(tmp_path / "app.3f9a1c2b.js")
        write(tmp_path / "sub" / "a.txt")
        additions = SiteHeaders([("X-Mine", "1")], cors=True, cache_control=[parse_rule("*.txt=no-cache")])
        files = Files(tmp_path, additions=additions)
        yield files
        files.close()

    def test_a_file(self, files: Files) -> None:
        answer = ask(files, "/sub/a.txt")
        assert set(answer.fields) >= {("X-Mine", "1"), ("Cache-Control", "no-cache"), NOSNIFF}
        assert answer.headers["access-control-allow-origin"] == "*"
        assert ask(files, "/app.3f9a1c2b.js").headers["cache-control"] == IMMUTABLE

    def test_not_modified(self, files: Files) -> None:
        """RFC 9110 §15.4.5: what would have been sent with a 200, but for what describes the content."""
        whole = ask(files, "/sub/a.txt")
        answer = ask(files, "/sub/a.txt", "GET", f"If-None-Match: {whole.headers['etag']}")
        assert answer.status == 304
        assert set(answer.fields) < set(whole.fields)
        assert set(whole.fields) - set(answer.fields) == {
            NOSNIFF,
            ("Accept-Ranges", "bytes"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Last-Modified", whole.headers["last-modified"]),
        }

    def test_hard_links_have_the_fields_of_their_names(self, files: Files, tmp_path: Path) -> None:
        (tmp_path / "plain.js").hardlink_to(tmp_path / "app.3f9a1c2b.js")
        for _ in range(2):
            assert "cache-control" not in ask(files, "/plain.js").headers
            assert ask(files, "/app.3f9a1c2b.js").headers["cache-control"] == IMMUTABLE

    @pytest.mark.parametrize(
        ("target", "method", "status"),
        [("/", "GET", 200), ("/nothing", "GET", 404), ("/%", "GET", 400), ("/sub", "GET", 301), ("/", "OPTIONS", 204)],
    )
    def test_other_answers(self, files: Files, target: str, method: str, status: int) -> None:
        answer = ask(files, target, method)
        assert answer.status == status
        assert answer.headers.get_all("x-mine") == ["1"]
        assert answer.headers.get_all("access-control-allow-origin") == ["*"]
        assert answer.headers.get("cache-control") == ("no-cache" if status == 200 else None)  # as listings have it

    def test_answers_do_not_share_their_lines(self, files: Files) -> None:
        response = files(parse("/nothing"))
        response.fields.append(("X-More", "1"))
        assert "x-more" not in ask(files, "/nothing").headers


def _just(awaited: Future[Response], request: Request) -> Future[Response]:
    return awaited


LINES = (("X-Mine", "1"), ("X-Other", "2"))


class TestAdding:
    """Around a handler that knows nothing of it."""

    @staticmethod
    def lines(response: Any) -> list[FieldLine]:
        assert isinstance(response, Response)
        return response.fields

    def test_an_answer(self) -> None:
        handler = HeaderMiddleware(lambda request: Response(200, b"", [("x-mine", "own")]), LINES)
        assert self.lines(handler(parse("/"))) == [("x-mine", "own"), ("X-Other", "2")]

    def test_a_refusal(self) -> None:
        class Refusing(BaseHandler):
            def __call__(self, request: Request) -> HandlerResult:
                raise HTTPError(418, "no", (("X-Why", "0"),))

            def before_body(self, request: Request) -> None:
                self(request)

            def body_sink(self, request: Request) -> None:
                self(request)

        handler = HeaderMiddleware(Refusing(), LINES)
        for call in (handler, handler.before_body, handler.body_sink):
            with pytest.raises(HTTPError) as caught:
                call(parse("/"))
            assert (caught.value.status, caught.value.fields) == (418, (("X-Why", "0"), *LINES))

    def test_hooks(self) -> None:
        handler = HeaderMiddleware(lambda request: Response(), LINES)
        handler.before_body(parse("/"))
        assert handler.body_sink(parse("/")) is None

    def test_an_answer_that_comes_later(self) -> None:
        awaited: Future[Response] = Future()
        answer = HeaderMiddleware(lambda request: awaited, LINES)(parse("/"))
        assert isinstance(answer, Future)
        assert not answer.done()
        awaited.set_result(Response())
        assert self.lines(answer.result(0)) == list(LINES)

    def test_a_failure_that_comes_later(self) -> None:
        for error in (KeyError("x"), HTTPError(503, "later")):
            awaited: Future[Response] = Future()
            answer = HeaderMiddleware(FunctionHandler(partial(_just, awaited)), LINES)(parse("/"))
            assert isinstance(answer, Future)
            awaited.set_exception(error)
            with pytest.raises(type(error)) as raised:
                answer.result(0)
            if isinstance(raised.value, HTTPError):
                assert raised.value.fields == LINES

    def test_nobody_waits_any_more(self) -> None:
        pending: Future[Response] = Future()
        answer = HeaderMiddleware(lambda request: pending, LINES)(parse("/"))
        assert isinstance(answer, Future)
        answer.cancel()
        assert pending.cancelled()
        closed = []
        running: Future[Response] = Future()
        running.set_running_or_notify_cancel()
        answer = HeaderMiddleware(lambda request: running, LINES)(parse("/"))
        assert isinstance(answer, Future)
        answer.cancel()
        response = Response()
        response.body = type("Body", (), {"close": lambda self: closed.append(1), "__iter__": lambda self: iter(())})()
        running.set_result(response)
        assert closed == [1]


class TestPreflight:
    """Fetch §4.8."""

    handler = staticmethod(Preflight(lambda request: Response(418)))

    def ask(self, *lines: str) -> Response:
        answer = self.handler(parse("/a", "OPTIONS", "Origin: http://other", *lines))
        assert isinstance(answer, Response)
        return answer

    def test_is_answered(self) -> None:
        answer = self.ask("Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization, range")
        assert answer.status == 204
        headers = answer.headers
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
        assert headers["access-control-allow-headers"] == "authorization, range"
        assert int(headers["access-control-max-age"]) > 0

    @pytest.mark.parametrize("asked", ["", "a b", "caf\xe9", "a,,b", "\xff"])
    def test_names_that_are_none(self, asked: str) -> None:
        answer = self.ask("Access-Control-Request-Method: GET", f"Access-Control-Request-Headers: {asked}")
        assert answer.headers["access-control-allow-headers"] == "*"

    def test_other_requests_go_on(self) -> None:
        assert self.ask().status == 418
        get = self.handler(parse("/a", "GET", "Access-Control-Request-Method: GET"))
        assert isinstance(get, Response)
        assert get.status == 418
