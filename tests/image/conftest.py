"""Builds the image once for the tests that look into it and start it; the base image is kept for the next time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.image.container import Image
from tests.services.install import BUILDAH, MMDEBSTRAP

NAME = "localhost/streams:test"
LABELS = {
    "VERSION": "1.2.3",
    "REVISION": "abc123",
    "SOURCE": "https://git.example.com/streams",
    "CREATED": "2026-01-01",
}


def require_root() -> None:
    """Mounts and name spaces are root's."""
    if os.geteuid() == 0:
        return
    reason = "building the image needs root"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """The image, built from the Dockerfile as it is now."""
    require(BUILDAH)
    require(MMDEBSTRAP)
    require_root()
    arguments = [f"--build-arg={name}={value}" for name, value in LABELS.items()]
    built = subprocess.run(
        [str(Path(__file__).with_name("build.sh")), "--quiet", *arguments],
        env={**os.environ, "IMAGE": NAME},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert built.returncode == 0, f"{built.stdout}\n{built.stderr}"
    made = Image(NAME)
    yield made
    made.remove()
