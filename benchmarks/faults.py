"""Attacks, accidents and bad luck: does kaserve stay up, small and polite, and lose no request?

    python benchmarks/faults.py [SCENARIO ...]

Each scenario starts its own server, does to it what its name says, bounded and over the loopback interface, and
compares the results with the requirements. The exit code is 0 when all requirements were met. Linux only.
"""

import argparse
import sys
from collections.abc import Callable

from lib.faults.closing import drain, expiry, race
from lib.faults.crowding import burst, descriptors
from lib.faults.environment import logs, port
from lib.faults.scenario import Report
from lib.faults.slow_clients import pipeline, slowloris, unread
from lib.processes import clean_up_when_terminated, raise_descriptor_limit

SCENARIOS: dict[str, Callable[[Report], None]] = {
    function.__name__: function
    for function in (descriptors, slowloris, unread, pipeline, drain, expiry, race, burst, port, logs)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"which ones: {', '.join(SCENARIOS)} (default: all)"
    )
    names = parser.parse_args().scenarios or list(SCENARIOS)
    if unknown := [name for name in names if name not in SCENARIOS]:
        parser.error(f"unknown: {', '.join(unknown)} (known: {', '.join(SCENARIOS)})")
    clean_up_when_terminated()
    raise_descriptor_limit()
    met = True
    for name in names:
        print(f"{name}: {SCENARIOS[name].__doc__}", flush=True)
        report = Report()
        SCENARIOS[name](report)
        met = met and all(finding[2] for finding in report.findings)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
