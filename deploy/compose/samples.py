"""Sample data for `compose.yaml`, in the worker's own image: `prepare` makes bucket and topic, `produce` publishes.

python samples.py prepare
python samples.py produce [EVENTS]     # without a number: until it is stopped
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from typing import Any

import orjson
from aiobotocore.session import get_session
from botocore.config import Config
from botocore.exceptions import ClientError
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 6
INTERVAL_SECONDS = 0.1
EXISTS = ("BucketAlreadyExists", "BucketAlreadyOwnedByYou")

BROKERS = os.environ["STREAMS_KAFKA_BOOTSTRAP_SERVERS"]
TOPIC = os.environ["STREAMS_TOPICS"]


async def make_topic() -> None:
    """The topic, unless it is there."""
    admin = AdminClient({"bootstrap.servers": BROKERS})  # kept: its questions end with it
    try:
        await asyncio.wrap_future(admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC])
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise SystemExit(f"topic {TOPIC} was not made: {error.args[0].str()}") from error


async def make_bucket() -> None:
    """The bucket, unless it is there."""
    config = Config(s3={"addressing_style": "path"})
    endpoint = os.environ["STREAMS_S3_ENDPOINT_URL"]
    async with get_session().create_client("s3", endpoint_url=endpoint, config=config) as client:
        try:
            await client.create_bucket(Bucket=os.environ["STREAMS_S3_BUCKET"])
        except ClientError as error:
            if error.response["Error"]["Code"] not in EXISTS:
                raise


def order(number: int) -> dict[str, Any]:
    """A sample event."""
    return {"order": number, "customer": f"c-{number % 50}", "cents": 100 + number * 37 % 9900}


async def produce(events: int | None) -> None:
    """Publish at a steady rate; a customer's orders stay in one partition."""
    producer = Producer({"bootstrap.servers": BROKERS, "enable.idempotence": True, "log_level": 3})
    try:
        for number in itertools.count() if events is None else range(events):
            document = order(number)
            producer.produce(TOPIC, orjson.dumps(document), key=str(document["customer"]).encode())
            producer.poll(0)
            await asyncio.sleep(INTERVAL_SECONDS)
    finally:
        producer.flush(10)


async def main(arguments: list[str]) -> None:
    if arguments[:1] == ["prepare"]:
        await asyncio.gather(make_topic(), make_bucket())
    elif arguments[:1] == ["produce"] and len(arguments) <= 2:
        await produce(int(arguments[1]) if len(arguments) == 2 else None)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
