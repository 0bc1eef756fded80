"""A container without an engine: the image's files as a read-only root, in namespaces of its own, as with Docker.

buildah's own `run` has no read-only root and, isolated by chroot, no process ids of its own; so `unshare` makes both.
The network is the machine's: servers on 127.0.0.1 are in reach.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.services.process import ServerProcess
from tests.services.waiting import wait_until

# /tmp is the only place to write to, as with `docker run --read-only --tmpfs /tmp`.
_ENTER = """
set -e
mount --bind "$ROOT" "$ROOT"
mount -o remount,ro,bind "$ROOT"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$ROOT/tmp"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
exec chroot --userspec="$IMAGE_USER" --groups= "$ROOT" /usr/bin/env -i "$@"
"""


def buildah(*arguments: str) -> str:
    """What buildah prints; a failure shows what it said."""
    finished = subprocess.run(
        ["buildah", *arguments],
        env={**os.environ, "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "vfs")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


class Image:
    """An image of buildah's store, its files mounted at `root`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._container = buildah("from", name)
        self.root = Path(buildah("mount", self._container))
        document: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", name))
        self.config: dict[str, Any] = document["Docker"]["config"]

    def remove(self) -> None:
        """Take the mounted files away; the image stays."""
        buildah("umount", self._container)
        buildah("rm", self._container)

    @property
    def environment(self) -> dict[str, str]:
        """What the image sets."""
        return dict(pair.split("=", 1) for pair in self.config["Env"])

    @property
    def command(self) -> list[str]:
        """What it starts."""
        command: list[str] = self.config["Cmd"]
        return command

    @property
    def health_check(self) -> list[str]:
        """The command of HEALTHCHECK."""
        test: list[str] = self.config["Healthcheck"]["Test"]
        kind, *command = test
        assert kind == "CMD"
        return command

    def enter(self, command: Sequence[str], settings: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """The command that runs `command` as a container's first process, and the environment for it."""
        variables = [f"{name}={value}" for name, value in {**self.environment, **settings}.items()]
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh"]
        outside = {"PATH": os.environ["PATH"], "ROOT": str(self.root), "IMAGE_USER": self.config["User"]}
        return [*enter, *variables, *command], outside

    def run(
        self, command: Sequence[str], settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of its own and wait for its end."""
        full, outside = self.enter(command, settings or {})
        return subprocess.run(full, env=outside, capture_output=True, text=True, timeout=100, check=False)


class Container:
    """The image's own command, running."""

    def __init__(self, image: Image, settings: Mapping[str, str], log_file: Path) -> None:
        self._image = image
        self._settings = settings
        self._process = ServerProcess("the container", log_file)

    def start(self) -> None:
        command, outside = self._image.enter(self._image.command, self._settings)
        self._process.start(command, outside, self._process.log_file.parent)

    @property
    def first_process(self) -> int:
        """Its process id out here, as soon as there is one: `unshare` has no other child."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")

        def child() -> int:
            assert self._process.running, self._process.log_tail()
            return int((children.read_text().split() or ["0"])[0])

        return wait_until(child, 10, "unshare has no child")

    def stop(self) -> None:
        """SIGTERM to the first process, as `docker stop` sends it."""
        os.kill(self.first_process, signal.SIGTERM)

    def wait(self, timeout_seconds: float) -> int:
        """The exit code, 128 + n after signal n."""
        code = self._process.wait(timeout_seconds)
        return 128 - code if code < 0 else code

    @property
    def running(self) -> bool:
        return self._process.running

    def log(self) -> str:
        return self._process.log_tail()

    def kill(self) -> None:
        self._process.kill()
