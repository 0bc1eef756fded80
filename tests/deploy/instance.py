"""An EC2 instance as far as our scripts see one: its metadata service, and stand-ins for the programs they call."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.services.install import ROOT

FOLDER = ROOT / "deploy" / "ec2"
TOKEN = "a-token-of-the-metadata-service"
PROGRAMS = ("aws", "chown", "cfn-signal", "dnf", "docker", "systemctl")


class Pages:
    """What the web server of `serve` answers, by path; may be changed while it runs."""

    def __init__(self, pages: Mapping[str, str]) -> None:
        self.pages = dict(pages)
        self.port = 0
        self.reads: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serve(pages: Mapping[str, str]) -> Iterator[Pages]:
    """The metadata service (version 2: a token, or 401), and any other page of the instance."""
    answers = Pages(pages)

    class Service(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            known = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
            self._answer(200 if known else 400, TOKEN)

        def do_GET(self) -> None:
            metadata = self.path.startswith("/latest/")
            if metadata and self.headers["X-aws-ec2-metadata-token"] != TOKEN:
                self._answer(401, "")
                return
            page = answers.pages.get(self.path)
            answers.reads[self.path] += 1
            self._answer(404 if page is None else 200, page or "")

        def _answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: its requests are not the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        answers.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield answers
        finally:
            server.shutdown()
            thread.join()


class Instance:
    """A directory with stand-ins; each notes its call and does what the test says, by default nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self._calls = folder / "calls"
        self.programs.mkdir(parents=True)
        for program in PROGRAMS:
            self.stand_in(program, "exit 0")

    def stand_in(self, program: str, body: str) -> None:
        """Bash that takes the place of a program; its arguments are `$@`."""
        path = self.programs / program
        path.write_text(f'#!/bin/bash\nprintf "%s\\n" "{program} $*" >>{self._calls}\n{body}\n')
        path.chmod(0o755)

    def calls(self, start: str = "") -> list[str]:
        """What was called that begins so, in order."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line for line in lines if line.startswith(start)]

    @property
    def environment(self) -> dict[str, str]:
        """As the units' EnvironmentFile sets it."""
        return {
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "AWS_REGION": "eu-central-1",
            "IMAGE": "111122223333.dkr.ecr.eu-central-1.amazonaws.com/streams:0.1.0",
            "SECRET_ARN": "arn:aws:secretsmanager:eu-central-1:111122223333:secret:kafka-AbCdEf",
            "LOG_GROUP": "/streams/archive",
            "GROUP": "archive",
            "LIFECYCLE_HOOK": "drain",
            "NAMESPACE": "Streams",
            "INSTANCE_ID": "i-0123456789abcdef0",
            "RUNTIME_DIRECTORY": str(self.folder),
            "POLL_SECONDS": "0.05",
            "RETRY_SECONDS": "0.05",
        }

    def start(self, script: Path, variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a script with these stand-ins first on its PATH."""
        return subprocess.Popen(
            ["bash", str(script)],
            env={**self.environment, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: Path, variables: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a script to its end: its exit code and what it said."""
        process = self.start(script, variables)
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        return process.returncode, output
