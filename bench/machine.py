"""Facts about the machine that a number means nothing without."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.baselines import default_thread_count

_PACKAGES = ("faust-streaming", "confluent-kafka", "obstore", "aiobotocore", "boto3", "uvloop")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and with what the runs were made."""

    cores: int
    processor: str
    memory_gib: float
    kernel: str
    python: str
    default_threads: int
    packages: dict[str, str]

    def describe(self) -> str:
        """One paragraph for people."""
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (
            f"{self.cores} cores ({self.processor}), {self.memory_gib:.0f} GiB of memory, Linux {self.kernel}, "
            f"Python {self.python}; {packages}. The broker and the load server run on the same cores."
        )


def this_machine() -> Machine:
    """Look at the machine that runs this."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        kernel=platform.release().split("-", 1)[0],
        python=platform.python_version(),
        default_threads=default_thread_count(),
        packages={name: version(name) for name in _PACKAGES},
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
