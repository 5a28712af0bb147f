"""The default limits. What happens beyond them is in corpus/limits.toml."""

from __future__ import annotations

import pytest

from kaserve.http.limits import Limits


def test_the_default_limits() -> None:
    limits = Limits()
    assert (limits.request_line, limits.fields, limits.field_size, limits.head) == (8190, 100, 8190, 65536)
    assert (limits.body, limits.chunk_line, limits.empty_lines) == (1 << 30, 1024, 32)


@pytest.mark.parametrize(
    "changes", [{}, {"fields": 5000}, {"head": 300}, {"request_line": 50}, {"field_size": 40}], ids=str
)
def test_no_head_up_to_unchecked_is_beyond_a_limit_of_size(changes: dict[str, int]) -> None:
    limits = Limits(**changes)
    assert limits.unchecked <= min(limits.request_line, limits.field_size, limits.head)


def test_limits_are_keyword_arguments() -> None:
    with pytest.raises(TypeError):
        Limits(100)  # type: ignore[call-arg]  # what mypy refuses too is refused at run time
