"""`python -m streams`: the container's first process can be stopped from its first moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.services.install import ROOT


def test_sigterm_is_handled_before_faust_is_imported(tmp_path: Path) -> None:
    """A SIGTERM while Faust is being imported ends the process at once, with the exit code that says so."""
    (tmp_path / "faust.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    ended = subprocess.run([sys.executable, "-m", "streams", "worker"], env=environment, timeout=30, check=False)
    assert 128 + 15 == ended.returncode
