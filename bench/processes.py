"""What Linux says about a process: CPU time and memory, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12  # fields of /proc/<pid>/stat, counted after the command's closing bracket (proc(5))


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process: now, and the most it ever had."""

    resident_mib: float
    peak_mib: float


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, all threads, those that ended included; 10 ms resolution."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_PER_SECOND


def memory(pid: int) -> Memory | None:
    """Memory of the process, or nothing once it has ended."""
    sizes_kib: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            sizes_kib[name] = float(value.split()[0])
    return Memory(sizes_kib["VmRSS"] / 1024, sizes_kib["VmHWM"] / 1024) if len(sizes_kib) == 2 else None


def machine_busy_seconds() -> float:
    """CPU time that the whole machine has spent working since it started."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = (
        int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / _TICKS_PER_SECOND
