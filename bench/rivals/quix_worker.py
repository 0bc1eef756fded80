"""Quix Streams with an object per event: boto3 in a function that its stream calls, one event after the other.

Runs in a virtual environment of its own. Quix has a sink for S3 as well, which writes files of many events: it is
another product, and is not compared here.
"""

from __future__ import annotations

import os
from typing import Any

import boto3

# Only in the environment that `install` makes for it.
from quixstreams import Application, message_context  # type: ignore[import-not-found] # in a venv of its own


def main() -> None:
    """Archive the topic in the environment until SIGTERM."""
    application = Application(
        broker_address=os.environ["STREAMS_KAFKA_BOOTSTRAP_SERVERS"],
        consumer_group=os.environ["STREAMS_CONSUMER_GROUP"],
        auto_offset_reset="earliest",
        auto_create_topics=False,
        state_dir=os.environ["STREAMS_DATA_DIR"],
        loglevel="WARNING",
    )
    topic = application.topic(os.environ["STREAMS_TOPICS"], value_deserializer="bytes")
    application.dataframe(topic).update(_put())
    application.run()


def _put() -> Any:
    bucket = os.environ["STREAMS_S3_BUCKET"]
    client = boto3.client("s3", endpoint_url=os.environ["STREAMS_S3_ENDPOINT_URL"])

    def put(value: bytes) -> None:
        source = message_context()
        client.put_object(Bucket=bucket, Key=f"{source.topic}/{source.partition}/{source.offset}.json", Body=value)

    return put


if __name__ == "__main__":
    main()
