"""Bar charts as SVG, for light and dark pages: horizontal bars, each with its name before and its figures after it.

The text stays text, in a font of the reader's system, whose widths are estimated here. A chart has a background of its
own, so that it can be read on a page that is dark although the reader's system is light.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import shorten

WIDE, NARROW = 640, 400
"""Widths: with figures for each bar; legible on a phone of 360 pixels."""
BAR, GAP, MARGIN = 16, 8, 16
LONGEST_TEXT = 60
CHARACTER = 0.56
"""Estimated width of a character, in units of the font's size. Digits and lower case letters are about this wide."""
STYLE = """\
text { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; } .note { fill: #59636e; font-size: 12px; }
.ground { fill: #fff; stroke: #d0d7de; } .ours { fill: #1f6fb5; } .pure { fill: #8fbfe6; } .other { fill: #b5b9bf; }
@media (prefers-color-scheme: dark) {
text { fill: #e6e6e6; } .note { fill: #9aa0a6; }
.ground { fill: #17191d; stroke: #3a3f46; } .ours { fill: #5aa2f2; } .pure { fill: #2f5f94; } .other { fill: #5c636d; }
}"""


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its length (None: only the text is shown), and the text after it."""

    name: str
    value: float | None
    text: str


def draw(path: Path, title: str, axis: str, bars: Sequence[Bar], width: int = WIDE) -> None:
    """Write the chart of `bars`, from top to bottom; `axis` says what their length means."""
    texts = [shorten(bar.text, LONGEST_TEXT, placeholder=" …") for bar in bars]
    left = MARGIN + 8 + max((_wide(bar.name) for bar in bars), default=0)
    longest = max((bar.value or 0 for bar in bars), default=0) or 1
    # Each bar has its text after it, so the longest bar alone does not say how much space there is for bars.
    room = [width - MARGIN - left - 6 - _wide(text) for text in texts]
    pairs = [(space, bar.value) for space, bar in zip(room, bars, strict=True) if bar.value]
    scale = min((space / value for space, value in pairs), default=0)
    scale = max(scale, 0.2 * (width - left) / longest)
    top = MARGIN + 48
    height = top + len(bars) * (BAR + GAP) + MARGIN - GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<style>\n{STYLE}\n</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        f'<text class="title" x="{MARGIN}" y="{MARGIN + 13}">{escape(title)}</text>',
        f'<text class="note" x="{MARGIN}" y="{MARGIN + 32}">{escape(axis)}</text>',
    ]
    for number, (bar, text) in enumerate(zip(bars, texts, strict=True)):
        y = top + number * (BAR + GAP)
        long = max(1.0, scale * bar.value) if bar.value is not None else 0
        style = "" if bar.value is not None else ' class="note"'
        lines.append(f'<text x="{left - 8:.0f}" y="{y + 12}" text-anchor="end">{escape(bar.name)}</text>')
        lines.append(f'<rect class="{colour(bar.name)}" x="{left:.0f}" y="{y}" width="{long:.1f}" height="{BAR}"/>')
        lines.append(f'<text{style} x="{left + long + 6:.1f}" y="{y + 12}">{escape(text)}</text>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "</svg>\n"]), encoding="utf-8")


def _wide(text: str) -> float:
    """Estimated width of `text` in pixels."""
    return 13 * CHARACTER * len(text)


def colour(name: str) -> str:
    """The style of the bar with this name: kaserve, its pure build, or another server."""
    if not name.startswith("kaserve"):
        return "other"
    return "pure" if name.startswith("kaserve-pure") else "ours"
