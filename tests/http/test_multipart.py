"""Forms: however they are cut, the parts are those that were sent."""

from __future__ import annotations

import doctest
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kaserve.http.multipart
from kaserve.http.errors import HTTPError
from kaserve.http.multipart import FormReader, PartHeaders, parse_boundary, parse_file_name
from tests.tools.ids import readable


class Form:
    """Records the parts."""

    def __init__(self) -> None:
        self.parts: list[tuple[bytes | None, bytes]] = []
        self.complete: list[bool] = []

    def open_part(self, headers: PartHeaders) -> Part:
        self.parts.append((headers.file_name, b""))
        self.complete.append(False)
        return Part(self)


class Part:
    def __init__(self, form: Form) -> None:
        self.form = form

    def write(self, data: bytes) -> None:
        assert data
        name, content = self.form.parts[-1]
        self.form.parts[-1] = (name, content + data)

    def finish(self) -> None:
        self.form.complete[-1] = True


def read(wire: bytes, *places: int, boundary: bytes = b"xyz") -> list[tuple[bytes | None, bytes]]:
    form = Form()
    reader = FormReader(boundary, form)
    start = 0
    for place in (*places, len(wire)):
        reader.write(wire[start:place])
        start = place
    reader.finish()
    assert all(form.complete)
    return form.parts


def part(content: bytes, disposition: bytes = b'name="a"; filename="a.txt"', *lines: bytes) -> bytes:
    head = b"\r\n".join((b"Content-Disposition: form-data; " + disposition, *lines))
    return b"--xyz\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


END = b"--xyz--\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"\r\n",
        b"\r\n--xy",
        b"--xyz",
        b"\n--xyz",
        b"\r\n--xY\r\n",
        b"\r\r\n",
        b"a\r\n\r\nb",
        bytes(range(256)),
    ],
    ids=readable,
)
def test_content_cut_anywhere(content: bytes) -> None:
    wire = b"preamble\r\n" + part(content) + part(b"b", b'name="b"') + END + b"epilogue"
    expected = [(b"a.txt", content), (None, b"b")]
    assert read(wire) == read(wire, *range(len(wire))) == expected
    for place in range(len(wire)):
        assert read(wire, place) == expected


@given(st.lists(st.binary(max_size=40)), st.randoms(use_true_random=False))
def test_any_content(contents: list[bytes], rng: random.Random) -> None:
    contents = [content for content in contents if b"\r\n--xyz" not in b"\r\n" + content]
    wire = b"".join(map(part, contents)) + END
    places = sorted(rng.randrange(len(wire)) for _ in range(5))
    assert read(wire, *places) == [(b"a.txt", content) for content in contents]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b'name="f"; filename="a.txt"', b"a.txt"),
        (b'filename="a.txt"; name="f"', b"a.txt"),
        (b'name="f"; FileName="a.txt"', b"a.txt"),
        (b"name=f; filename=a.txt", b"a.txt"),
        (b'name="f"; filename=""', b""),
        (b'name="f"', None),
        (b'name="x; filename=evil"; filename="a.txt"', b"a.txt"),
        (b'name="x; filename=evil"', None),
        (b'name="x\\"; filename=\\"evil"', None),
        (b'name="f"; filename="caf\xc3\xa9.txt"', b"caf\xc3\xa9.txt"),
        (b'name="f"; filename="a;b=c.txt"', b"a;b=c.txt"),
        (b'name="f"; filename="a%22b.txt"', b'a"b.txt'),
        (b'name="f"; filename="a\\"b.txt"', b'a"b.txt'),
        (b'name="f"; filename="a%41%0d%0A.txt"', b"a%41\r\n.txt"),
        (b'name="f"; filename="C:\\dir\\a.txt"', b"C:\\dir\\a.txt"),
        (b"name=\"f\"; filename*=UTF-8''evil.txt", None),  # RFC 7578 §4.2
    ],
)
def test_names(disposition: bytes, name: bytes | None) -> None:
    assert read(part(b"x", disposition, b"Content-Type: text/plain") + END) == [(name, b"x")]


def test_details_of_the_grammar() -> None:
    assert read(END) == []
    assert read(b"--xyz \t\r\nx-y: 1\r\n\r\nb\r\n--xyz--") == [(None, b"b")]  # padding, RFC 2046 §5.1.1
    assert read(b"--xyz\r\n\r\nb\r\n--xyz--") == [(None, b"b")]  # no fields
    assert read(b"--xyz\r\nContent-Disposition: attachment; filename=a\r\n\r\nb\r\n--xyz--") == [(None, b"b")]


@pytest.mark.parametrize(
    "wire",
    [
        b"", b"x", b"--xyz", b"--xyz\r\n", part(b"x"), part(b"x") + b"--xyz", part(b"x") + b"--xyz-",
        b"--xyz\r\nX: 1\r\n" + b"x" * 10_000, b"--xyzzy\r\n\r\n\r\n--xyz--", b"--xyz\r\nX: 1\r\n--xyz--",
        b"--xyz" + b" " * 10_000, b"--xyz\r\nX: " + b"x" * 10_000 + b"\r\n\r\n\r\n--xyz--",
    ],
)  # fmt: skip
def test_no_forms(wire: bytes) -> None:
    for places in ((), range(len(wire))):
        with pytest.raises(HTTPError, match="400"):
            read(wire, *places)


def test_too_many_parts() -> None:
    with pytest.raises(HTTPError, match=r"413.*more than 10,000 parts"):
        read(part(b"") * 10_001 + END)


def test_little_is_kept() -> None:
    reader = FormReader(b"xyz", Form())
    reader.write(b"--xyz\r\n\r\n")
    for _ in range(10):
        reader.write(b"x" * 100_000)
        assert len(reader._received) < 10


@pytest.mark.parametrize(
    ("value", "boundary"),
    [
        ("multipart/form-data; boundary=xyz", b"xyz"),
        ("Multipart/Form-Data;BOUNDARY=xyz", b"xyz"),
        ('multipart/form-data; boundary="x y,z"', b"x y,z"),
        ("multipart/form-data; charset=utf-8; boundary=xyz; a=b", b"xyz"),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            b"----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
    ],
)
def test_boundaries(value: str, boundary: bytes) -> None:
    assert parse_boundary(value) == boundary


@pytest.mark.parametrize(
    "value",
    ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=x",
     "multipart/form-data; boundary=" + "x" * 71,
     "application/x-www-form-urlencoded", 'multipart/form-data; boundary=""'],
)  # fmt: skip
def test_no_boundaries(value: str) -> None:
    with pytest.raises(HTTPError, match="415"):
        parse_boundary(value)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"a.txt", b"a.txt"), (b"/etc/passwd", b"passwd"), (b"../../a.txt", b"a.txt"), (b"C:\\dir\\a.txt", b"a.txt"),
        (b"..\\a", b"a"), (b"dir/a b.txt", b"a b.txt"), (b"\xff.txt", b"\xff.txt"), (b"...", b"..."),
    ],
)  # fmt: skip
def test_file_names(sent: bytes, name: bytes) -> None:
    assert parse_file_name(sent) == name


@pytest.mark.parametrize("sent", [b".", b"..", b"a/", b"a\\", b"../..", b"a\0b", b"a\nb", b"\x7f", b"/"])
def test_no_file_names(sent: bytes) -> None:
    with pytest.raises(HTTPError, match="400"):
        parse_file_name(sent)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b'Content-Disposition: form-data; name="a"'], PartHeaders(b"a")),
        ([b"content-disposition:form-data;name=a"], PartHeaders(b"a")),
        ([b'Content-Disposition: form-data; filename="f; name=x"; name="a"'], PartHeaders(b"a", b"f; name=x")),
        ([b'Content-Disposition: form-data; filename="f"'], PartHeaders(None, b"f")),
        ([b'Content-Disposition: form-data; name="a%22b\\"c"'], PartHeaders(b'a"b"c')),
        ([b"Content-Type:  text/x ; a=b "], PartHeaders(content_type="text/x ; a=b")),
        ([b"Content-Type: \xff", b"x"], PartHeaders()),
    ],
    ids=readable,
)
def test_headers_of_a_part(lines: list[bytes], expected: PartHeaders) -> None:  # RFC 7578 §4
    seen = []

    class Recorder(Form):
        def open_part(self, headers: PartHeaders) -> Part:
            seen.append(headers)
            return super().open_part(headers)

    reader = FormReader(b"xyz", Recorder())
    reader.write(b"--xyz\r\n" + b"\r\n".join(lines) + b"\r\n\r\n\r\n" + END)
    reader.finish()
    assert seen == [expected]


def test_the_position_of_what_is_passed_on() -> None:
    wire = b"preamble\r\n" + part(b"hello") + END
    positions = []

    class Recorder(Part):
        def write(self, data: bytes) -> None:
            positions.append((reader.position, data))

    class Opener(Form):
        def open_part(self, headers: PartHeaders) -> Part:
            super().open_part(headers)
            return Recorder(self)

    for place in range(len(wire)):
        reader = FormReader(b"xyz", Opener())
        reader.write(wire[:place])
        reader.write(wire[place:])
        reader.finish()
    assert positions
    assert all(wire[position : position + len(data)] == data for position, data in positions)


def test_the_examples_in_the_documentation() -> None:
    result = doctest.testmod(kaserve.http.multipart)
    assert result.attempted > 0
    assert result.failed == 0
