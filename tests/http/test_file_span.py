"""Part of an open file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaserve.http.file_span import FileSpan


def test_file_span_owns_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    span = FileSpan(fd, 2, 5)
    assert repr(span) == f"<FileSpan fd {fd}, 5 bytes from 2>"
    span.close()
    assert span.fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    span.close()
