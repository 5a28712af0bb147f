"""Finding: the result of an experiment."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """What an experiment has found: data for JSON, and as a string a few words for the table.

    Attributes:
        good: whether it is as a client would wish; None where it is a matter of taste.
    """

    @property
    def good(self) -> bool | None:
        return None
