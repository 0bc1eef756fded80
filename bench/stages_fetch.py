"""The first stage alone: librdkafka fetches and decodes what the worker would read, and nobody uses it.

Configured as the worker's consumer is, so that batches and fetches are of the same size; the fields of each event are
read, which is when confluent-kafka makes Python objects of them.
"""

from __future__ import annotations

import os

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from bench.stage_app import Meter
from streams.consumer.configuration import consumer_configuration
from streams.consumer.poller import MAX_RECORDS
from streams.kafka.header_names import HeaderReader
from streams.kafka.records import record_of
from streams.settings import load_settings


def _fetch() -> None:
    configuration = consumer_configuration(load_settings())
    topic, meter = os.environ["STREAMS_TOPICS"], Meter(int(os.environ["BENCH_EVENTS"]))
    consumer, headers = Consumer(configuration), HeaderReader(configuration)
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    while True:
        for message in consumer.consume(MAX_RECORDS, 0.05):
            if message.error() is None:
                record_of(message, topic, headers.read)
                meter.count()


if __name__ == "__main__":
    _fetch()
