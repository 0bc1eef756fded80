"""The published benchmark's ways to upload to S3 and SQS, as published: boto3, in sequence or in a default thread pool.

Run as a program of its own, so that its CPU and memory can be measured like the worker's. It does not read Kafka:
the messages are made in memory, which is in its favour.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import boto3

from bench.workload import event

Upload = Callable[[int], object]


def default_thread_count() -> int:
    """How many threads Python's default pool has on this machine: five or more, depending on its cores."""
    with ThreadPoolExecutor() as pool:
        return pool._max_workers


def s3_uploader() -> Upload:
    """`put_object` with boto3's default configuration, as `message_<i>.json`."""
    client = boto3.client("s3", endpoint_url=os.environ["STREAMS_S3_ENDPOINT_URL"])
    bucket = os.environ["STREAMS_S3_BUCKET"]
    return lambda number: client.put_object(Bucket=bucket, Key=f"message_{number}.json", Body=event(number))


def sqs_uploader() -> Upload:
    """`send_message` with boto3's default configuration, one message per request."""
    client = boto3.client("sqs", endpoint_url=os.environ["STREAMS_SQS_ENDPOINT_URL"])
    queue_url = os.environ["STREAMS_SQS_QUEUE_URL"]
    return lambda number: client.send_message(QueueUrl=queue_url, MessageBody=event(number).decode())


def in_sequence(upload: Upload, messages: int) -> None:
    """One after the other: every message waits for the one before."""
    for number in range(messages):
        upload(number)


def in_threads(upload: Upload, messages: int) -> None:
    """As many at a time as the default thread pool has threads."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(upload, range(messages)):
            pass


_UPLOADERS = {"s3": s3_uploader, "sqs": sqs_uploader}
_MODES = {"sequence": in_sequence, "threads": in_threads}


def main() -> None:
    """Upload to the endpoint and the bucket or queue that the benchmark put in the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=_UPLOADERS)
    parser.add_argument("mode", choices=_MODES)
    parser.add_argument("--messages", type=int, required=True)
    arguments = parser.parse_args()
    _MODES[arguments.mode](_UPLOADERS[arguments.service](), arguments.messages)


if __name__ == "__main__":
    main()
