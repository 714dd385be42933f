"""Read processor time and memory of other processes and their children."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Use:
    """The processor time that a process has used, and its current memory."""

    pid: int
    parent: int
    cpu_seconds: float
    memory_bytes: int


def family(pid: int) -> list[Use]:
    """Return the process and all its descendants, the process first."""
    uses = {use.pid: use for use in _all_uses()}
    found = [uses[pid]]
    for member in found:  # the list grows during the loop
        found += [use for use in uses.values() if use.parent == member.pid]
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its children have used so far."""
    return sum(use.cpu_seconds for use in family(pid))


def _all_uses() -> Iterator[Use]:
    return _from_proc() if (_PROC / "self" / "stat").exists() else _from_ps()


def _from_proc() -> Iterator[Use]:
    tick = os.sysconf("SC_CLK_TCK")
    page = os.sysconf("SC_PAGE_SIZE")
    for folder in _PROC.glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The program's name is in parentheses and may contain anything.
        fields = stat.rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / tick
        yield Use(int(folder.name), int(fields[1]), cpu, int(fields[21]) * page)


def _from_ps() -> Iterator[Use]:
    listing = ["ps", "-A", "-o", "pid=,ppid=,time=,rss="]
    done = subprocess.run(listing, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        pid, parent, clock, kibibytes = line.split()
        yield Use(int(pid), int(parent), seconds(clock), int(kibibytes) * 1024)


def seconds(clock: str) -> float:
    """Return the seconds of ps's [[days-]hours:]minutes:seconds."""
    days, _, rest = clock.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = total * 60 + float(part)
    return total + int(days or 0) * 86400
