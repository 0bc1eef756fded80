"""The demonstration's order of events; see the package's docstring for its parts."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from demo import check, queue
from demo.benchmark import MESSAGE_COUNT, PUBLISHED, PUBLISHED_PUT_SECONDS, Measurement, message
from demo.broker import EmbeddedBroker, Published
from demo.cost import describe_cost
from demo.errors import DemoError
from demo.object_store import EmbeddedObjectStore, PutClock
from demo.report import Report
from demo.worker import Worker, run_command

TOPIC = "demo"
GROUP = "streams-demo"
BUCKET = "demo"
ARRIVAL_TIMEOUT_SECONDS = 90.0
COMMIT_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.05

COMMON_SETTINGS = {
    "STREAMS_CONSUMER_GROUP": GROUP,
    "AWS_ACCESS_KEY_ID": check.ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": check.SECRET_KEY,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def main() -> int:
    """Returns the exit code."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _leave)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="streams-demo-") as folder:
        try:
            _choose(report, Path(folder), keep=os.environ.get("KEEP", "") not in ("", "0"))
        except DemoError as error:
            report.step(f"\nThe demo failed: {error}")
            return 1
        except KeyboardInterrupt:
            report.step("\nInterrupted.")
            return 130
    return 0


def _choose(report: Report, folder: Path, *, keep: bool) -> None:
    """With S3, unless `SINK` says otherwise."""
    sink = os.environ.get("SINK", "") or "s3"
    if sink == "sqs":
        queue.demonstrate(report, folder, TOPIC, COMMON_SETTINGS, keep=keep)
    elif sink == "s3":
        _demonstrate(report, folder, keep=keep)
    else:
        raise DemoError(f"SINK={sink} is not known: choose s3 or sqs.")


def _leave(signum: int, frame: FrameType | None) -> None:
    """Being ended, or losing the terminal, unwinds the `with` blocks too, so that no worker is left behind."""
    sys.exit(128 + signum)


def _demonstrate(report: Report, folder: Path, *, keep: bool) -> None:
    broker = EmbeddedBroker()
    report.step(f"Kafka: an embedded broker at {broker.address}")
    with EmbeddedObjectStore(PUBLISHED_PUT_SECONDS) as store:
        bucket = check.Bucket(store.url, BUCKET)
        report.step(f"S3:    an embedded server at {store.url}, {PUBLISHED_PUT_SECONDS * 1000:.0f} ms for each PUT")
        published = broker.publish(TOPIC, (message(number) for number in range(MESSAGE_COUNT)))
        report.step(f"Published {len(published):,} messages to the topic `{TOPIC}`")
        with Worker(_settings(broker.address, store.url, folder), folder / "worker.log") as worker:
            try:
                result, cost = _archive(report, worker, bucket, store.clock, published)
                if keep:
                    _wait_for_commit(broker, published)
                    _show(report, result, cost)
                    _prove(report, _settings(broker.address, store.url, folder))
                    _keep(report, worker, f"{store.url}/{BUCKET}")
                _stop(report, worker, broker, published)
            except DemoError as error:
                raise DemoError(f"{error}\n\nThe end of the worker's log:\n{worker.log_tail()}") from error
        if not keep:
            _show(report, result, cost)
            _prove(report, _settings(broker.address, store.url, folder))
            report.step(f"\nIts page was {worker.page_url}; `make demo KEEP=1` leaves everything running.")


def _archive(
    report: Report, worker: Worker, bucket: check.Bucket, clock: PutClock, published: Published
) -> tuple[list[Measurement], str]:
    """Waits until the worker has written everything, checks it, and returns our rows of the table and the cost."""
    started_seconds = time.monotonic()
    report.step("Started the worker: faust -A streams worker")
    _wait_for_objects(report, worker, clock)
    whole_seconds = clock.last_answer_seconds - started_seconds
    with report.progress("Objects verified", MESSAGE_COUNT) as advance:
        verified = check.verify(bucket, TOPIC, published, advance)
    rows = [
        Measurement("Streams, first PUT to last", MESSAGE_COUNT, clock.elapsed_seconds, verified),
        Measurement("Streams, from its start", MESSAGE_COUNT, whole_seconds, verified),
    ]
    return rows, describe_cost(rows[0], worker.stats())


def _stop(report: Report, worker: Worker, broker: EmbeddedBroker, published: Published) -> None:
    worker.stop()
    check.verify_committed(broker.committed(TOPIC, GROUP), published)
    report.step("The worker stopped on SIGTERM with exit code 0, every message committed.")


def _show(report: Report, result: list[Measurement], cost: str) -> None:
    report.table([*result, *PUBLISHED], cost)
    report.step(
        "The published figures are of S3 itself. The S3 here waits as long over each PUT,\n"
        "but is a Python server on the cores that the worker runs on, and bounds these\n"
        "seconds; `make bench` measures in earnest."
    )


def _wait_for_commit(broker: EmbeddedBroker, published: Published) -> None:
    """The worker commits twice a second; what is not committed yet is not part of the proof."""
    deadline_seconds = time.monotonic() + COMMIT_TIMEOUT_SECONDS
    while sum(broker.committed(TOPIC, GROUP).values()) < len(published):
        if time.monotonic() > deadline_seconds:
            raise DemoError(f"The offsets were not committed within {COMMIT_TIMEOUT_SECONDS:.0f} s.")
        time.sleep(POLL_SECONDS)


def _prove(report: Report, settings: dict[str, str]) -> None:
    """The product's own proof, as anybody would run it."""
    report.step("Nothing missing? Ask it: faust -A streams verify\n")
    code, notes = run_command(settings, "verify")
    if code != 0:
        raise DemoError(f"verify ended with exit code {code}:\n{notes}")


def _keep(report: Report, worker: Worker, bucket_url: str) -> None:
    """Leaves everything running until Ctrl-C."""
    try:
        report.step(f"Its page:    {worker.page_url}\nThe bucket:  {bucket_url}\nCtrl-C stops it.")
        while True:
            worker.check_running()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        report.step("Stopping.")


def _settings(broker_address: str, store_url: str, folder: Path) -> dict[str, str]:
    """All that the worker is told: where Kafka is, which topic, where S3 is."""
    return COMMON_SETTINGS | {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker_address,
        "STREAMS_TOPICS": TOPIC,
        "STREAMS_S3_BUCKET": BUCKET,
        "STREAMS_S3_ENDPOINT_URL": store_url,
        "STREAMS_S3_PATH_STYLE": "true",
        "STREAMS_S3_REGION": check.REGION,
        "STREAMS_DATA_DIR": str(folder),
    }


def _wait_for_objects(report: Report, worker: Worker, clock: PutClock) -> None:
    deadline_seconds = time.monotonic() + ARRIVAL_TIMEOUT_SECONDS
    with report.progress("Objects in the bucket", MESSAGE_COUNT) as advance:
        while clock.answered < MESSAGE_COUNT:
            worker.check_running()
            if time.monotonic() > deadline_seconds:
                raise DemoError(f"{clock.answered} of {MESSAGE_COUNT} objects came in {ARRIVAL_TIMEOUT_SECONDS:.0f} s.")
            advance(clock.answered)
            time.sleep(POLL_SECONDS)
        advance(MESSAGE_COUNT)


if __name__ == "__main__":
    sys.exit(main())
