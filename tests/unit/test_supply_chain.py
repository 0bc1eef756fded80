"""`make sbom` and `make audit`: what the worker is made of, and what is known against it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def pinned(name: str) -> dict[str, str]:
    """Names and versions of a file in requirements/."""
    return dict(PINNED.findall((ROOT / "requirements" / name).read_text()))


@pytest.fixture(scope="module")
def audit() -> Any:
    """requirements/audit.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("requirements_audit", ROOT / "requirements" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_bill_of_materials_is_the_pinned_file_and_nothing_of_this_machine(tmp_path: Path) -> None:
    """Every package of requirements/run.txt with its version and hashes; no registry, path or secret gets in."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    bom = tmp_path / "sbom.json"
    environment = {**os.environ, "PIP_INDEX_URL": "https://user:canary@registry.example/simple", "MAKEFLAGS": ""}
    command = ["make", "-o", "venv", "sbom", f"SBOM={bom}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    text = bom.read_text()
    document = json.loads(text)
    assert "CycloneDX" == document["bomFormat"]
    assert pinned("run.txt") == {one["name"]: one["version"] for one in document["components"]}
    assert all(one["purl"].startswith("pkg:pypi/") for one in document["components"])
    assert all(one["externalReferences"][0]["hashes"] for one in document["components"])
    assert "streams" == document["metadata"]["component"]["name"]
    hosts = set(re.findall(r"https?://([^/\"\s]+)", text))
    assert {host for host in hosts if "registry" in host or "canary" in host} == set()
    for private in (str(ROOT), str(Path.home()), "canary"):
        assert private not in text


# -- audit -------------------------------------------------------------------------------------------------------------


@contextmanager
def vulnerability_service(answer: dict[str, Any]) -> Iterator[str]:
    """An OSV service that gives every package this answer; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """No line for each request."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def look_up(audit: Any, url: str) -> Any:
    """The real pip-audit over the shortest file, asking the service at `url`."""
    return audit.audit(ROOT / "requirements" / "build.txt", ["--vulnerability-service", "osv", "--osv-url", url])


def test_audit_is_clean_where_nothing_is_known(audit: Any) -> None:
    """Every package was looked up: exit code 0, and the number is said."""
    with vulnerability_service({}) as url:
        found = look_up(audit, url)
    assert audit.CLEAN == found.code, list(found.lines())
    assert ["requirements/build.txt: nothing known against 1 packages"] == list(found.lines())


def test_audit_names_a_vulnerable_package(audit: Any) -> None:
    """Package, version, the vulnerability's id, and the version that mends it: exit code 1."""
    version = pinned("build.txt")["setuptools"]
    affected = {
        "package": {"name": "setuptools", "ecosystem": "PyPI"},
        "versions": [version],
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999.0"}]}],
    }
    known = {"id": "PYSEC-2026-1", "summary": "bad", "published": "2026-01-01T00:00:00Z", "affected": [affected]}
    with vulnerability_service({"vulns": [known]}) as url:
        found = look_up(audit, url)
    assert audit.VULNERABLE == found.code
    assert [f"requirements/build.txt: setuptools {version}: PYSEC-2026-1, mended in 999.0"] == list(found.lines())


def test_audit_without_its_service_is_not_clean(audit: Any) -> None:
    """No answer is no proof: exit code 2, what happened, and where to run it instead."""
    with vulnerability_service({}) as url:
        pass
    found = look_up(audit, url)
    assert audit.UNKNOWN == found.code
    line, remedy = audit.summary([found])
    assert line.startswith("requirements/build.txt: NOT AUDITED: pip-audit says: ")
    assert "PyPI's JSON API" in remedy


def test_packages_that_the_service_does_not_know_are_not_clean(audit: Any) -> None:
    """An index without vulnerability data makes pip-audit skip every package and end with 0; `make audit` does not."""
    output = json.dumps({"dependencies": [{"name": "aiohttp", "skip_reason": "not found on PyPI"}], "fixes": []})
    found = audit.report("requirements/run.txt", output, "")
    assert audit.UNKNOWN == found.code
    assert "1 of 1 packages NOT AUDITED" in next(iter(found.lines()))
