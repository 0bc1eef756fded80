"""The published benchmark's design behind Kafka: read events into memory, then upload them with boto3, as published.

In sequence, or with Python's default thread pool; offsets are committed when everything is uploaded.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import boto3
from confluent_kafka import Consumer, Message


def main() -> None:
    """Upload the first events of the topic in the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["sequence", "threads"])
    parser.add_argument("--events", type=int, required=True)
    arguments = parser.parse_args()
    consumer = _consumer()
    messages = _read(consumer, arguments.events)
    upload = _uploader()
    if arguments.mode == "sequence":
        for message in messages:
            upload(message)
    else:
        with ThreadPoolExecutor() as pool:
            list(pool.map(upload, messages))
    consumer.commit(asynchronous=False)
    consumer.close()


def _consumer() -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["STREAMS_KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": os.environ["STREAMS_CONSUMER_GROUP"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([os.environ["STREAMS_TOPICS"]])
    return consumer


def _read(consumer: Consumer, events: int) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < events:
        answers = consumer.consume(min(500, events - len(messages)), timeout=1.0)
        messages += [message for message in answers if message.error() is None]
    return messages


def _uploader() -> Callable[[Message], None]:
    bucket = os.environ["STREAMS_S3_BUCKET"]
    client = boto3.client("s3", endpoint_url=os.environ["STREAMS_S3_ENDPOINT_URL"])

    def upload(message: Message) -> None:
        key = f"{message.topic()}/{message.partition()}/{message.offset()}.json"
        client.put_object(Bucket=bucket, Key=key, Body=message.value())

    return upload


if __name__ == "__main__":
    main()
