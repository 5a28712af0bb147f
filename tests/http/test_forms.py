"""Forms: fields and files, in both encodings, within limits."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaserve.http.errors import HTTPError
from kaserve.http.forms import Form, UploadedFile, parse_form, parse_query

LIMITS = {"max_size": 1 << 20, "max_memory": 1 << 16, "max_parts": 100}
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=xyz"


def parse(body: bytes, content_type: str = MULTIPART, **limits: int) -> Form:
    return parse_form(io.BytesIO(body), content_type, **LIMITS | limits)


def part(name: str, content: bytes = b"", file_name: str | None = None, content_type: str = "") -> bytes:
    file = "" if file_name is None else f'; filename="{file_name}"'
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{file}\r\n'
    head += f"Content-Type: {content_type}\r\n" if content_type else ""
    return head.encode() + b"\r\n" + content + b"\r\n"


END = b"--xyz--\r\n"


def shown(file: UploadedFile) -> tuple[str, str, bytes]:
    return file.file_name, file.content_type, file.file.read()


def test_queries() -> None:
    assert parse_query("a=1&a=2&b&=c&&%26=%3D+").multi_items() == [
        ("a", "1"), ("a", "2"), ("b", ""), ("", "c"), ("&", "= "),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text("aé&=+ %☃"))))
def test_urlencoded_forms_come_back(fields: list[tuple[str, str]]) -> None:
    assert parse(urlencode(fields).encode(), URLENCODED).multi_items() == fields
    assert parse_query(urlencode(fields)).multi_items() == fields


@pytest.mark.parametrize("content_type", [URLENCODED, URLENCODED.upper(), f"{URLENCODED}; charset=utf-8"])
def test_urlencoded(content_type: str) -> None:
    form = parse("a=%C3%A9&b=%FF&c=é".encode(), content_type)
    assert form == {"a": "é", "b": "\ufffd", "c": "é"}
    assert form.files == {}
    assert parse(b"", content_type) == {}


def test_multipart() -> None:
    form = parse(
        part("a", b"1")
        + part("photo", b"\x89PNG\r\n", "C:\\pictures\\caf\u00e9.png", "image/png")
        + part("a", "é".encode())
        + part("photo", b"", "empty.txt")
        + part("none", b"", "")
        + END
    )
    assert form.multi_items() == [("a", "1"), ("a", "é")]
    assert [shown(file) for file in form.files.get_all("photo")] == [
        ("café.png", "image/png", b"\x89PNG\r\n"),
        ("empty.txt", "", b""),
    ]
    assert "none" not in form
    assert "none" not in form.files
    assert repr(form.files["photo"]) == "<UploadedFile 'café.png', 6 bytes>"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.binary(max_size=300), st.booleans()), max_size=8))
def test_multipart_forms_come_back(parts: list[tuple[str, bytes, bool]]) -> None:
    """Files are where the parser says that they are, however many bytes are around them."""
    parts = [each for each in parts if b"\r\n--xyz" not in b"\r\n" + each[1]]
    wire = b"preamble\r\n"
    for name, content, is_file in parts:
        wire += part(name, content, "f" if is_file else None)
    form = parse(wire + END + b"epilogue")
    texts = [(name, data.decode("utf-8", "replace")) for name, data, is_file in parts if not is_file]
    assert form.multi_items() == texts
    files = form.files.multi_items()
    assert [(name, file.file.read()) for name, file in files] == [(name, data) for name, data, file in parts if file]
    assert [file.size for _, file in files] == [len(data) for _, data, file in parts if file]


def test_a_file_larger_than_what_is_read_at_once() -> None:
    content = bytes(range(256)) * 1000
    form = parse(part("x") + part("f", content, "f") + END, max_size=len(content) + 1000)
    assert form.files["f"].file.read() == content


def test_files_are_read_independently() -> None:
    form = parse(part("a", b"1\n22\n333", "a") + part("b", b"4444", "b") + END)
    a, b = form.files["a"].file, form.files["b"].file
    assert (a.readline(), b.read(1), a.readline(), b.read(), a.read(), a.read()) == (
        b"1\n", b"4", b"22\n", b"444", b"333", b"",
    )  # fmt: skip
    assert form.files["a"].file is a
    assert (a.seek(-2, io.SEEK_END), a.read(), a.seek(2), a.tell(), a.read(2)) == (6, b"33", 2, 2, b"22")
    assert (a.seek(100), a.read()) == (100, b"")
    assert not a.writable()
    with pytest.raises(ValueError, match="0 or more"):
        b.seek(-5, io.SEEK_END)


def test_the_body_is_at_its_start_again() -> None:
    body = io.BytesIO(part("a", b"1") + END)
    body.seek(3)
    assert parse_form(body, MULTIPART, **LIMITS) == {"a": "1"}
    assert body.tell() == 0


@pytest.mark.parametrize(
    ("body", "content_type", "limits", "status"),
    [
        pytest.param(b"a=1", "", {}, 415, id="no-type"),
        pytest.param(b"a=1", "text/plain", {}, 415, id="text"),
        pytest.param(b"", "multipart/form-data", {}, 415, id="no-boundary"),
        pytest.param(b"", "multipart/mixed; boundary=xyz", {}, 415, id="mixed"),
        pytest.param(b"", MULTIPART, {}, 400, id="empty"),
        pytest.param(part("a"), MULTIPART, {}, 400, id="incomplete"),
        pytest.param(b"--xyz\r\n\r\nx\r\n" + END, MULTIPART, {}, 400, id="no-name"),
        pytest.param(part("a", b"x", "..") + END, MULTIPART, {}, 400, id="file-name"),
        pytest.param(part("a", b"x", "") + END, MULTIPART, {}, 400, id="no-file-name"),
        pytest.param(b"a=12", URLENCODED, {"max_size": 3}, 413, id="size"),
        pytest.param(b"a=12", URLENCODED, {"max_memory": 3}, 413, id="memory"),
        pytest.param(b"a=1&b=2", URLENCODED, {"max_parts": 1}, 413, id="fields"),
        pytest.param(part("a", b"123") + END, MULTIPART, {"max_size": 50}, 413, id="multipart-size"),
        pytest.param(part("a", b"123") + END, MULTIPART, {"max_memory": 3}, 413, id="multipart-memory"),
        pytest.param(part("a" * 10) + END, MULTIPART, {"max_memory": 9}, 413, id="long-name"),
        pytest.param(part("a", b"", "b" * 10) + END, MULTIPART, {"max_memory": 9}, 413, id="long-file-name"),
        pytest.param(part("a") * 3 + END, MULTIPART, {"max_parts": 2}, 413, id="parts"),
    ],
)
def test_what_is_rejected(body: bytes, content_type: str, limits: dict[str, Any], status: int) -> None:
    with pytest.raises(HTTPError) as caught:
        parse(body, content_type, **limits)
    assert caught.value.status == status


def test_the_content_of_files_is_no_memory() -> None:
    form = parse(part("a", b"x" * 1000, "f") + END, max_memory=10)
    assert form.files["a"].size == 1000
