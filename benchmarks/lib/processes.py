"""Child processes: pinned to a core, measured through /proc, and always stopped.  Linux only.

Every child leads a session of its own.  All that it forks (nginx's worker, gunicorn's arbiter) belongs to that session,
so that the whole tree is found, measured and stopped by one number.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 3.0


@dataclass(frozen=True)
class Command:
    """What to run: the arguments, what to add to the environment, and whether its output is worth keeping."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    logs_requests: bool = False
    """It logs every request and has no option against that: its output goes to /dev/null."""


class Child:
    """A running command and everything it forked."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self._log = log

    def alive(self) -> bool:
        """Whether the command itself still runs."""
        return self._ending() is None

    def last_words(self) -> str:
        """The last line that it wrote: a failing program says there why."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        if lines:
            return lines[-1].strip()
        ending = self._ending()
        return "it wrote nothing" if ending is None else f"status {ending.si_status}, without output"

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree so far; the reaped children of its members are included."""
        return sum(_cpu_seconds(stat) for _, stat in self._members())

    def resident_bytes(self) -> int:
        """Resident memory of the whole tree; a page shared by two of its processes counts twice."""
        return sum(resident_bytes(pid) for pid, _ in self._members())

    def pids(self) -> list[int]:
        """Those of the whole tree."""
        return [pid for pid, _ in self._members()]

    def stop(self) -> None:
        """Ask the whole tree to end, and kill what has not ended after STOP_SECONDS."""
        self._signal(signal.SIGTERM)
        wait_until(self._ended, STOP_SECONDS)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _ending(self) -> "os.waitid_result | None":
        """How the command ended. WNOWAIT leaves a zombie, so that its number is not reused before `stop`."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def _ended(self) -> bool:
        """Whether nothing of the tree runs any more."""
        return all(stat[0] == "Z" for _, stat in self._members())

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _members(self) -> Iterator[tuple[int, list[str]]]:
        """The pid of each process of the session, and its /proc/PID/stat from the third field on."""
        session = str(self._process.pid)
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with suppress(FileNotFoundError, ProcessLookupError):
                    stat = _read_stat(int(entry))
                    if stat[3] == session:
                        yield int(entry), stat


@contextmanager
def running(command: Command, *, core: int, directory: Path) -> Iterator[Child]:
    """Run a command on one core while the block lasts, with `directory` as working directory and for its log."""
    log = directory / "output.log"
    with open(os.devnull if command.logs_requests else log, "wb") as output:
        process = subprocess.Popen(
            command.argv,
            env={**os.environ, **command.env},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(os.sched_setaffinity, 0, {core}),
        )
    log.touch()
    child = Child(process, log)
    try:
        yield child
    finally:
        child.stop()


def wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    """Calls `ready` every 20 ms until it returns true (True) or the time is over (False)."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def raise_descriptor_limit() -> int:
    """Raises the descriptor limit of this process and its children to the hard limit; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def clean_up_when_terminated() -> None:
    """Make SIGTERM and SIGHUP end this program the way Ctrl-C does, through every `finally`."""

    def leave(number: int, _frame: FrameType | None) -> None:
        print(f"ended by {signal.Signals(number).name}", file=sys.stderr)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)


def cpu_seconds(pid: int) -> float:
    """User and system time of one process so far, that of its children that were waited for included."""
    return _cpu_seconds(_read_stat(pid))


def _cpu_seconds(stat: Sequence[str]) -> float:
    # utime, stime, cutime, cstime: fields 14 to 17 of /proc/PID/stat
    return sum(map(int, stat[11:15])) / TICKS_PER_SECOND


def _read_stat(pid: int) -> list[str]:
    """/proc/PID/stat from its third field on."""
    text = Path("/proc", str(pid), "stat").read_text(errors="replace")
    # The second field is the name in parentheses, which may itself contain spaces and parentheses.
    return text.rpartition(")")[2].split()


def resident_bytes(pid: int) -> int:
    """Resident memory of one process; 0 when it is gone."""
    # Not those of /proc/PID/stat, statm or status: they are estimates which may be off by hundreds of pages.
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    return 0
