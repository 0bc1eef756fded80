"""The demonstration as a user runs it: a process of its own, its output read as text."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from demo.broker import Position
from demo.check import REGION, Bucket, object_key, verify
from demo.errors import DemoError
from demo.object_store import EmbeddedObjectStore
from demo.worker import Worker

PROJECT = Path(__file__).resolve().parents[2]
DEMO_SECONDS = 110

pytestmark = pytest.mark.timeout(DEMO_SECONDS + 20)


def demo_environment(**changes: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("KEEP", "SINK")} | changes


def run_demo(**changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=PROJECT,
        env=demo_environment(**changes),
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        check=False,
    )


def table_row(output: str, system: str) -> list[str]:
    """The numbers of the closing table's row for this system."""
    lines = [line for line in output.splitlines() if line.startswith(system)]
    assert len(lines) == 1, output
    return lines[0].removeprefix(system).split()


def costs(output: str) -> dict[str, float]:
    """What the sentence below the table says: the rate, and the dollars of a day on S3 and on SQS."""
    sentence = (
        r"At ([\d,]+) a second a day costs \$([\d,.]+) in PUTs to S3 \(and its objects \$([\d,.]+) a month to keep\), "
        r"or \$([\d,.]+) in requests to SQS \(us-east-1, 2026-11; docs/costs\.md\)\."
    )
    found = re.search(sentence, " ".join(output.split()))
    assert found is not None, output
    names = ("rate", "s3", "storage", "sqs")
    return {name: float(text.replace(",", "")) for name, text in zip(names, found.groups(), strict=True)}


def wait_until_it_ends(worker: Worker) -> None:
    deadline_seconds = time.monotonic() + DEMO_SECONDS
    while time.monotonic() < deadline_seconds:
        worker.check_running()
        time.sleep(0.05)


def object_writer(url: str, bucket: str) -> Callable[[Position, bytes], None]:
    """Writes the objects that the worker would write, with the metadata that names their place."""
    client = boto3.client(
        "s3", endpoint_url=url, region_name=REGION, aws_access_key_id="demo", aws_secret_access_key="demo-secret"
    )

    def put(position: Position, value: bytes) -> None:
        place = {"kafka-position": f"topic/{position[0]}/{position[1]}"}
        client.put_object(Bucket=bucket, Key=object_key("topic", position), Body=value, Metadata=place)

    return put


def http_status(url: str) -> int:
    """What a server of this machine answers to a GET."""
    address = urlsplit(url)
    with closing(HTTPConnection(address.netloc, timeout=10)) as connection:
        connection.request("GET", address.path)
        return connection.getresponse().status


def ignore(done: int) -> None:
    """Progress that nobody watches."""


def test_demo_verifies_every_object_and_ends_with_the_table() -> None:
    """1,000 messages become 1,000 verified objects through the real worker, shown beside the published figures."""
    demo = run_demo()
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Objects in the bucket: 1000 of 1000" in demo.stdout
    assert "exit code 0, every message committed" in demo.stdout
    messages, _, _, verified = table_row(demo.stdout, "Streams, first PUT to last")
    assert (messages, verified) == ("1,000", "1,000")
    for system, seconds in (("published, one after another", "73.57"), ("published, thread pool", "4.93")):
        assert seconds == table_row(demo.stdout, system)[1]
    assert "PROVED: all 1,000 events of 4 partitions" in demo.stdout
    cost = costs(demo.stdout)
    assert cost["rate"] * 86_400 * 0.005 / 1000 == pytest.approx(cost["s3"], rel=0.02)
    assert cost["rate"] * 86_400 * 0.04 / 1e6 == pytest.approx(cost["sqs"], rel=0.02)
    assert "Its page was http://127.0.0.1:" in demo.stdout


def test_demo_with_sqs_verifies_every_message() -> None:
    """`SINK=sqs`: every message is in the queue, byte for byte, shown beside the published figures for SQS."""
    demo = run_demo(SINK="sqs")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Messages in the queue: 1000 of 1000" in demo.stdout
    assert "exit code 0, every message committed" in demo.stdout
    messages, _, _, verified = table_row(demo.stdout, "Streams, first send to last")
    assert (messages, verified) == ("1,000", "1,000")
    for system, seconds in (("published, one after another", "34.14"), ("published, thread pool", "2.26")):
        assert seconds == table_row(demo.stdout, system)[1]
    cost = costs(demo.stdout)
    assert cost["rate"] * 86_400 * 0.04 / 1e6 <= 1.01 * cost["sqs"], "no request holds more than ten messages"
    assert cost["sqs"] < cost["s3"] / 20


def test_demo_with_another_sink_says_what_there_is() -> None:
    """A misspelt `SINK` is no S3 demonstration."""
    demo = run_demo(SINK="sns")
    assert demo.returncode == 1
    assert "SINK=sns is not known: choose s3 or sqs." in demo.stdout


def test_worker_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    """A worker that cannot start is noticed at once, and what it said about it reaches the person at the terminal."""
    with Worker({}, tmp_path / "worker.log") as worker:
        with pytest.raises(DemoError, match="ended by itself"):
            wait_until_it_ends(worker)
        assert "STREAMS_TOPICS" in worker.log_tail()


def test_object_with_other_bytes_is_found() -> None:
    """The check cannot pass by accident: one changed byte, one missing object and one too many each fail it."""
    published = {(0, 0): b"first", (0, 1): b"second"}
    with EmbeddedObjectStore(put_seconds=0.0) as store:
        bucket = Bucket(store.url, "checked")
        put = object_writer(store.url, bucket.name)
        put((0, 0), b"first")
        with pytest.raises(DemoError, match="1 objects are missing"):
            verify(bucket, "topic", published, ignore)
        put((0, 1), b"Second")
        with pytest.raises(DemoError, match="instead of b'second'"):
            verify(bucket, "topic", published, ignore)
        put((0, 1), b"second")
        assert len(published) == verify(bucket, "topic", published, ignore)
        put((0, 2), b"third")
        with pytest.raises(DemoError, match="1 are unexpected"):
            verify(bucket, "topic", published, ignore)


def test_kept_demo_serves_the_page_until_interrupted() -> None:
    """With KEEP=1 the page answers after the table, and Ctrl-C stops the worker in order."""
    with subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=PROJECT,
        env=demo_environment(KEEP="1", PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        try:
            page_url = next(line.split()[-1] for line in demo.stdout if line.startswith("Its page:"))
            assert http_status(page_url) == HTTPStatus.OK
            demo.send_signal(signal.SIGINT)
            rest = demo.stdout.read()
        finally:
            demo.kill()
    assert "every message committed" in rest
    assert demo.returncode == 0
