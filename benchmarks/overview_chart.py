"""The chart of the README and the start page: a few well-known servers, from a table of docs/performance.md.

    python benchmarks/overview_chart.py docs/charts/overview.svg

The charts of `servers.py` have all servers and their processor time. This one is for readers who do not know the
benchmarks yet, on a phone as well. It measures nothing, so that it always agrees with the page that it leads to.
"""

import re
import sys
from pathlib import Path

from lib.charts import NARROW, Bar, draw

PERFORMANCE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
SECTION = "Hello, twelve browser headers"
NAMES = {
    "kaserve": "kaserve",
    "nginx": "nginx",
    "go": "Go net/http",
    "uvicorn": "uvicorn",
    "waitress": "waitress",
    "gunicorn-gthread": "gunicorn",
    "http.server": "http.server",
}
"""The servers, by their names in the table."""


def read_rates(page: str) -> dict[str, int]:
    """Requests per second of each server, from the first table of the section."""
    table = page.partition(f"### {SECTION}\n\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\S+) +\| +([\d,]+) \|", table, re.MULTILINE)
    return {name: int(rate.replace(",", "")) for name, rate in rows}


def main() -> None:
    """Draw the chart into the file that the command line names."""
    rates = read_rates(PERFORMANCE.read_text(encoding="utf-8"))
    bars = [Bar(shown, rates[name], f"{rates[name]:,}") for name, shown in NAMES.items()]
    bars.sort(key=lambda bar: -(bar.value or 0))
    draw(Path(sys.argv[1]), "Small responses per second", "on one processor, with a browser's headers", bars, NARROW)


if __name__ == "__main__":
    main()
