"""What a site adds to its responses: rules for Cache-Control, fingerprinted names, and where the headers stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.handlers import Files
from kaserve.handlers.static.site_headers import SiteHeaders, is_fingerprinted, parse_rule
from tests.tools.files import ask, parse, write

NOSNIFF = ("X-Content-Type-Options", "nosniff")
IMMUTABLE = "public, max-age=31536000, immutable"


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "path", "value"),
        [
            ("no-store", b"a/b.html", "no-store"),
            ("max-age=60", b"a", "max-age=60"),
            ("public, max-age=60,immutable", b"a", "public, max-age=60,immutable"),
            ('private="set-cookie, x.y", no-cache', b"a", 'private="set-cookie, x.y", no-cache'),
            ("*.html=max-age=5", b"index.html", "max-age=5"),
            ("*.html=max-age=5", b"docs/index.html", "max-age=5"),
            ("*.html=max-age=5", b"index.htm", "no-cache"),
            ("*.html=max-age=5", b"a.html/b", "no-cache"),
            ("*.HTML=max-age=5", b"index.html", "no-cache"),
            ("sw.js=max-age=0", b"deep/sw.js", "max-age=0"),
            ("/sw.js=max-age=0", b"deep/sw.js", "no-cache"),
            ("/sw.js=max-age=0", b"sw.js", "max-age=0"),
            ("assets/*=max-age=60", b"assets/deep/a.js", "max-age=60"),
            ("assets/*=max-age=60", b"other/assets/a.js", "no-cache"),
            ("*.[jc]ss = max-age=60", b"a.css", "max-age=60"),
            ("*=no-store", b"\xff\xfe", "no-store"),
            ("*=no-store", b"", "no-store"),  # the listing of the root
            ("*/=no-store", b"docs/", "no-store"),
            ("*.html=no-store", b"docs.html/", "no-cache"),
        ],
    )
    def test_which_names(self, rule: str, path: bytes, value: str | None) -> None:
        fields = dict(SiteHeaders(cache_control=[parse_rule(rule)]).for_file(path).full)
        assert fields.get("Cache-Control") == value

    @pytest.mark.parametrize(
        "text", ["", "=", "*.html=", "no store", "max-age=1;x", "a, ,b", "a,", "no-cache\r\n", "\xe9"]
    )
    def test_no_rules(self, text: str) -> None:
        with pytest.raises(ValueError, match="must be DIRECTIVES or PATTERN=DIRECTIVES"):
            parse_rule(text)

    def test_the_first_that_matches_is_the_one(self) -> None:
        rules = [parse_rule(text) for text in ("*.html=no-cache", "a.*=max-age=1", "no-store")]
        headers = SiteHeaders(cache_control=rules)
        found = [dict(headers.for_file(path).full)["Cache-Control"] for path in (b"a.html", b"a.css", b"b.css")]
        assert found == ["no-cache", "max-age=1", "no-store"]

    def test_fingerprinted_names_when_no_rule_speaks_of_them(self) -> None:
        path = b"assets/app.3f9a1c2b.js"
        some = SiteHeaders(cache_control=[parse_rule("*.html=no-cache")], immutable=True)
        every = SiteHeaders(cache_control=[parse_rule("no-cache")], immutable=True)
        assert ("Cache-Control", IMMUTABLE) in some.for_file(path).full
        assert ("Cache-Control", "no-cache") in every.for_file(path).full
        assert SiteHeaders().for_file(path).full == (NOSNIFF, ("Cache-Control", "no-cache"))  # only if it is wanted

    def test_what_is_for_users_is_for_no_cache_between(self) -> None:
        """RFC 9111 §3.5."""
        fields = dict(SiteHeaders(immutable=True).for_users().for_file(b"app.3f9a1c2b.js").full)
        assert fields["Cache-Control"] == "private, max-age=31536000, immutable"

    def test_a_field_that_is_given_stands_alone(self) -> None:
        given = [
            ("cache-control", "private"),
            ("x-content-type-options", "none"),
            ("Access-Control-Allow-Origin", "null"),
        ]
        headers = SiteHeaders(given, cors=True, cache_control=[parse_rule("no-store")], immutable=True)
        names = [name.lower() for name, _ in headers.for_file(b"app.3f9a1c2b.js").full]
        assert sorted(names) == sorted({*names})
        assert set(given) <= set(headers.for_file(b"app.3f9a1c2b.js").full)


@pytest.mark.parametrize(
    "name",
    """
    app.3f9a1c2b.js app-3f9a1c2b.js main.8e7a2c1b.chunk.js bundle.d7400c89.min.js base.27e20196a850.css app-BdHfA8Qz.js
    index-DiwrgT4d.css chunk-5XKQ2ABC.js 0a1b2c3d4e5f60718293.mjs app.3f9a1c2b.js.map they.3f9a1c2b.wasm
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
    a-550e8400-e29b-41d4-a716-44665544000a.js user-12ab34cd.json logo.0a1b2c3d4e5f60718293.svg 0a1b2c3d4e5f60718293.png
    avatar-3f9a1c2b.webp song-3f9a1c2b.mp3 log-3f9a1c2b.txt a-550e8400-e29b-41d4-a716-44665544000a.jpg
    IMG-WA0012.jpg IMG_20240115_123456.jpg font-awesome.min.css
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
        headers = SiteHeaders(
            [("X-Mine", "1")], cors=True, cache_control=[parse_rule("*.txt=max-age=9")], immutable=True
        )
        files = Files(tmp_path, headers=headers)
        yield files
        files.close()

    def test_a_file(self, files: Files) -> None:
        answer = ask(files, "/sub/a.txt")
        assert set(answer.fields) >= {("X-Mine", "1"), ("Cache-Control", "max-age=9"), NOSNIFF}
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
            assert ask(files, "/plain.js").headers["cache-control"] == "no-cache"
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
        assert answer.headers.get("cache-control") == ("no-cache" if status in (200, 301) else None)

    def test_answers_do_not_share_their_lines(self, files: Files) -> None:
        response = files(parse("/nothing"))
        response.fields.append(("X-More", "1"))
        assert "x-more" not in ask(files, "/nothing").headers


class TestTheNameThatWasAskedFor:
    """A rule is about the name in the URL, not about the precompressed file that is sent in its place."""

    RULES = ("*.html=no-cache", "*.gz=no-store", "max-age=86400")

    @pytest.fixture
    def files(self, tmp_path: Path) -> Any:
        for name in ("index.html", "index.html.gz", "app.3f9a1c2b.js", "app.3f9a1c2b.js.br", "big.html"):
            write(tmp_path / name, b"x" * 2000)
        rules = map(parse_rule, self.RULES)
        files = Files(tmp_path, compress=True, headers=SiteHeaders(cache_control=rules), clock=lambda: 1e10)
        yield files
        files.close()

    @pytest.mark.parametrize(
        ("target", "accept", "value"),
        [
            ("/index.html", "gzip", "no-cache"),
            ("/", "gzip", "no-cache"),
            ("/index.html", "identity", "no-cache"),
            ("/index.html.gz", "gzip", "no-store"),
            ("/index.html.gz", "identity", "no-store"),
            ("/big.html", "gzip", "no-cache"),  # compressed on the fly
            ("/app.3f9a1c2b.js", "br", "max-age=86400"),
        ],
    )
    def test_rules(self, files: Files, target: str, accept: str, value: str) -> None:
        for _ in range(2):
            files.end_of_turn()
            for other in ("/index.html", "/index.html.gz"):  # whatever was asked for before
                ask(files, other, "GET", "Accept-Encoding: gzip")
            line = f"Accept-Encoding: {accept}"
            answer = ask(files, target, "GET", line)
            assert answer.headers.get_all("cache-control") == [value]
            again = ask(files, target, "GET", line, f"If-None-Match: {answer.headers['etag']}")
            assert (again.status, again.headers.get_all("cache-control")) == (304, [value])
