"""Bar charts as SVG, by matplotlib: horizontal bars, each with its figures after it."""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

OURS, OURS_PURE, OTHERS = "#1f6fb5", "#8fbfe6", "#b5b9bf"
"""Colours: kaserve, its pure build, other servers."""
TEXT, FAINT = "#24292f", "#8b949e"
WIDTH_INCHES, BAR_INCHES, MARGIN_INCHES = 8.0, 0.32, 0.9
LONGEST_TEXT = 90
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "kaserve",  # the same figures make the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": TEXT,
    "ytick.color": TEXT,
}


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its length (None: only the text is shown), and the text after it."""

    name: str
    value: float | None
    text: str


def check_installed() -> None:
    """RuntimeError without matplotlib: better before an hour of measuring than afterwards."""
    if importlib.util.find_spec("matplotlib") is None:
        raise RuntimeError("charts need the module matplotlib")


def draw(path: Path, title: str, axis: str, bars: Sequence[Bar]) -> None:
    """Write the chart of `bars`, from top to bottom; `axis` says what their length means."""
    # Imported by name: it is optional, and type checking must not need it.
    matplotlib = importlib.import_module("matplotlib")
    figure_class = importlib.import_module("matplotlib.figure").Figure
    with matplotlib.rc_context(STYLE):
        height = MARGIN_INCHES + BAR_INCHES * len(bars)
        figure = figure_class(figsize=(WIDTH_INCHES, height), facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        places = range(len(bars))
        axes.barh(places, [bar.value or 0 for bar in bars], color=[colour(bar.name) for bar in bars], height=0.7)
        for place, bar in zip(places, bars, strict=True):
            axes.annotate(
                shorten(bar.text, LONGEST_TEXT), (bar.value or 0, place), xytext=(5, 0), textcoords="offset points",
                va="center", fontsize=9, color=TEXT if bar.value is not None else FAINT,
            ).set_in_layout(False)  # fmt: skip
        axes.set_yticks(places, [bar.name for bar in bars])
        axes.tick_params(length=0)
        axes.set_xticks([])
        axes.invert_yaxis()
        # The text after the longest bar needs space, too.
        axes.set_xlim(0, 1.6 * max((bar.value or 0 for bar in bars), default=0) or 1)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.spines["left"].set_color(FAINT)
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
        axes.set_xlabel(axis, loc="left", color=FAINT)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def colour(name: str) -> str:
    """Of the bar with this name."""
    if not name.startswith("kaserve"):
        return OTHERS
    return OURS_PURE if name.startswith("kaserve-pure") else OURS
