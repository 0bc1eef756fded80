"""The published benchmark's two ways to upload to S3, as published: boto3, in sequence or in a default thread pool.

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


def default_thread_count() -> int:
    """How many threads Python's default pool has on this machine: five or more, depending on its cores."""
    with ThreadPoolExecutor() as pool:
        return pool._max_workers


def uploader(endpoint_url: str, bucket: str) -> Callable[[int], None]:
    """`put_object` with boto3's default configuration, as `message_<i>.json`."""
    client = boto3.client("s3", endpoint_url=endpoint_url)

    def upload(number: int) -> None:
        client.put_object(Bucket=bucket, Key=f"message_{number}.json", Body=event(number))

    return upload


def in_sequence(upload: Callable[[int], None], messages: int) -> None:
    """One after the other: every message waits for the one before."""
    for number in range(messages):
        upload(number)


def in_threads(upload: Callable[[int], None], messages: int) -> None:
    """As many at a time as the default thread pool has threads."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(upload, range(messages)):
            pass


def main() -> None:
    """Upload to the endpoint and bucket that the benchmark put in the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["sequence", "threads"])
    parser.add_argument("--messages", type=int, required=True)
    arguments = parser.parse_args()
    upload = uploader(os.environ["STREAMS_S3_ENDPOINT_URL"], os.environ["STREAMS_S3_BUCKET"])
    run = in_sequence if arguments.mode == "sequence" else in_threads
    run(upload, arguments.messages)


if __name__ == "__main__":
    main()
