"""Whether the bounds on writes in flight fit this machine: open files and memory. Reads small files of the kernel."""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from streams.doctor.findings import Finding, ok, unchecked, warning, wrong
from streams.settings import Settings

OTHER_OPEN_FILES: Final = 100
"""Brokers, pages, logs, libraries: measured 30 to 60, with a reserve."""
IDLE_BYTES: Final = 100 * 1024**2
"""A worker at rest: measured 90 MiB with obstore (docs/operations.md)."""
HELD_TIMES: Final = 3
"""An event is held as Kafka's batch, as itself and as a request: two to three times its size (docs/operations.md)."""
ROOT: Final = Path("/")

_CGROUP_V1_UNLIMITED_BYTES: Final = 2**60
"""Version 1 says "no limit" with a number near 2**63."""


async def examine_machine(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Findings about the bounds of the settings on this machine."""
    yield ok("settings", _settings_facts(settings))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield open_files(settings.max_in_flight, None if soft == resource.RLIM_INFINITY else soft)
    yield connection_pool(settings)
    available = memory_limit_bytes(ROOT)
    if available is None:
        yield unchecked("memory", "neither a cgroup limit nor the size of the memory can be read")
    else:
        yield memory(settings.max_in_flight_bytes, *available)


def _settings_facts(settings: Settings) -> str:
    bucket = f"bucket {settings.s3_bucket}, client {settings.s3_client}"
    beside = f", large events and dead letters to {bucket}" if settings.s3_bucket else ""
    where = f"queue {settings.sqs_queue_url}{beside}" if settings.sink == "sqs" else bucket
    return f"valid; {settings.topics} as group {settings.consumer_group} to {where}"


def open_files(max_in_flight: int, limit: int | None) -> Finding:
    """Each write in flight has a connection of its own; `limit` is RLIMIT_NOFILE, `None` for none."""
    check, needed = "open files", max_in_flight + OTHER_OPEN_FILES
    if limit is None or limit >= needed:
        shown = "unlimited" if limit is None else f"{limit:,}"
        return ok(check, f"limit {shown}, {needed:,} needed for STREAMS_MAX_IN_FLIGHT={max_in_flight}")
    return wrong(
        check,
        f"limit {limit:,}, but STREAMS_MAX_IN_FLIGHT={max_in_flight} needs {needed:,} (a connection for each write)",
        f"Raise the limit (ulimit -n {needed}; LimitNOFILE={needed} in a systemd unit; docker run --ulimit "
        f"nofile={needed}), or set STREAMS_MAX_IN_FLIGHT={max(1, limit - OTHER_OPEN_FILES)}.",
    )


def connection_pool(settings: Settings) -> Finding:
    """Both clients are given a pool as large as the bound, so that no write waits for a connection."""
    if settings.sink == "sqs" or settings.s3_client == "aiobotocore":
        return ok("connection pool", f"{settings.max_in_flight:,} connections, as many as writes in flight")
    return ok("connection pool", f"obstore's pool has no bound; at most {settings.max_in_flight:,} writes in flight")


def memory(max_in_flight_bytes: int, available_bytes: int, source: str) -> Finding:
    """Whether events in flight, with what is held around them, fit the memory; batches of any size may come on top."""
    check, most = "memory", IDLE_BYTES + HELD_TIMES * max_in_flight_bytes
    need = (
        f"up to {_mib(most)} needed ({_mib(IDLE_BYTES)} + {HELD_TIMES} x STREAMS_MAX_IN_FLIGHT_BYTES; more only for a "
        "batch that is far larger once it is unpacked)"
    )
    if most <= available_bytes:
        return ok(check, f"{_mib(available_bytes)} ({source}), {need}")
    fitting = (available_bytes - IDLE_BYTES) // HELD_TIMES // 1024**2
    lower = f" or set STREAMS_MAX_IN_FLIGHT_BYTES={fitting}MiB" if fitting >= 1 else ""
    remedy = f"Give it at least {_mib(most)} of memory{lower}."
    if IDLE_BYTES + max_in_flight_bytes > available_bytes:
        return wrong(check, f"only {_mib(available_bytes)} ({source}), but {need}", remedy)
    return warning(check, f"{_mib(available_bytes)} ({source}) are enough for small events only: {need}", remedy)


def memory_limit_bytes(root: Path) -> tuple[int, str] | None:
    """The memory that this process may use and where that is said: a container's limit, or what the machine has."""
    limits = [(limit, "cgroup limit") for file in _limit_files(root) if (limit := _read_limit(file)) is not None]
    physical = _physical_bytes()
    if physical is not None:
        limits.append((physical, "physical"))
    return min(limits, default=None)


def _limit_files(root: Path) -> Iterator[Path]:
    """Where the limits of this process's control group stand, and those of the groups around it (cgroups(7))."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    yield from _upwards(root / "sys/fs/cgroup", paths.get("", "/"), "memory.max")
    yield from _upwards(root / "sys/fs/cgroup/memory", paths.get("memory", "/"), "memory.limit_in_bytes")


def _upwards(mount: Path, path: str, name: str) -> Iterator[Path]:
    group = PurePosixPath(path.lstrip("/"))
    yield from (mount / one / name for one in (group, *group.parents) if ".." not in one.parts)


def _physical_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _read_limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < _CGROUP_V1_UNLIMITED_BYTES else None


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:,.0f} MiB"
