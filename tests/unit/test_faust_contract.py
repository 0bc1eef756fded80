"""The private parts of Faust, mode and aiokafka that `streams/consumer.py` overrides or calls, as they were when it was
written. A new version that changes one of them fails here, by name, before it can lose an event."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from aiokafka.consumer.consumer import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from faust.agents.agent import Agent
from faust.app.base import App
from faust.streams import Stream
from faust.tables.recovery import Recovery
from faust.transport.conductor import Conductor
from faust.transport.consumer import Consumer, ThreadDelegateConsumer
from faust.transport.consumer import Fetcher as FaustFetcher
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as AIOKafkaDriverConsumer
from faust.types.tuples import ConsumerMessage, Message
from faust.worker import Worker
from mode.utils.queues import ThrowableQueue

VERSIONS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

SOURCES: dict[str, tuple[Callable[..., Any], str]] = {
    # called, or overridden and called through super()
    "Consumer.force_commit": (Consumer.force_commit, "cc094614d22c70fb"),
    "Consumer.commit": (Consumer.commit, "a354437baaa08bf8"),
    "Consumer._commit_tps": (Consumer._commit_tps, "a20e230b05ae8b15"),
    "Consumer._filter_committable_offsets": (Consumer._filter_committable_offsets, "dc5e9baf5d994485"),
    "Consumer._get_active_partitions": (Consumer._get_active_partitions, "b24897f3c7afdb5d"),
    "Consumer.stop_flow": (Consumer.stop_flow, "cf7e875a2b0d40e8"),
    "Consumer.resume_flow": (Consumer.resume_flow, "db59630f25b5819b"),
    "Consumer.on_partitions_revoked": (Consumer.on_partitions_revoked, "d04b7ae72c6fc206"),
    "Consumer.on_partitions_assigned": (Consumer.on_partitions_assigned, "29ce96596f05a18c"),
    "Consumer.on_stop": (Consumer.on_stop, "45b1d2210ce2b526"),
    "ThreadDelegateConsumer._commit": (ThreadDelegateConsumer._commit, "a20eec84e4b2ed50"),
    "Fetcher._fetcher": (FaustFetcher._fetcher.fun, "68f894f0b577d810"),
    "driver Consumer.on_stop": (AIOKafkaDriverConsumer.on_stop, "173f86b366f3608e"),
    "AIOKafkaConsumerThread._fetch_records": (AIOKafkaConsumerThread._fetch_records, "39a2c6c79fc1455a"),
    "AIOKafkaConsumerThread.getmany": (AIOKafkaConsumerThread.getmany, "26fc5fc9f3b667e1"),
    "AIOKafkaConsumerThread.commit": (AIOKafkaConsumerThread.commit, "d31c8558ba25310c"),
    "AIOKafkaConsumerThread._create_consumer": (AIOKafkaConsumerThread._create_consumer, "a4dc6ba0681a298c"),
    "App._on_partitions_revoked": (App._on_partitions_revoked, "d5c895bbe57dc73a"),
    "App._on_partitions_assigned": (App._on_partitions_assigned, "de932b7927db85b3"),
    "App._stop_consumer": (App._stop_consumer, "55854a5de12c3f52"),
    "Recovery._resume_streams": (Recovery._resume_streams, "d986a6710c1aca98"),
    "Conductor._update_tp_index": (Conductor._update_tp_index, "e8e3ac9025ef44f7"),
    "Conductor._flag_changes": (Conductor._flag_changes, "43eb94e0048312fc"),
    "Stream.noack": (Stream.noack, "921a6f5c674d32d4"),
    "Stream.ack": (Stream.ack, "32d7171a89b0931d"),
    "Agent._execute_actor": (Agent._execute_actor, "c750b828d2bda93e"),
    "Message.ack": (Message.ack, "4751b72c4ed84153"),
    "ConsumerMessage.on_final_ack": (ConsumerMessage.on_final_ack, "45d670b6a8ac4bd0"),
    "Worker._on_sigterm": (Worker._on_sigterm, "ba99cf23ea875c02"),
    "ThrowableQueue.clear": (ThrowableQueue.clear, "d18f09e451acf62e"),
    "aiokafka GroupCoordinator.fetch_committed_offsets": (GroupCoordinator.fetch_committed_offsets, "6c049c7379165952"),
    # what the rule about handed-out records rests on
    "aiokafka Fetcher.fetched_records": (Fetcher.fetched_records, "be4348896b9b66af"),
    "aiokafka Fetcher.seek_to": (Fetcher.seek_to, "f0ba6aba6c22ef83"),
    "aiokafka FetchResult.getall": (FetchResult.getall, "3e717e30de5068d5"),
    "aiokafka PartitionRecords._unpack_records": (PartitionRecords._unpack_records, "b803e6d46480732c"),
    "aiokafka PartitionRecords.__init__": (PartitionRecords.__init__, "8ec1c2ae6ea1af87"),
    "aiokafka PartitionRecords.__next__": (PartitionRecords.__next__, "63ac34a08c309098"),
    "aiokafka Fetcher._proc_fetch_request": (Fetcher._proc_fetch_request, "59bf948fff47eed5"),
    "aiokafka _MemoryRecordsPy.next_batch": (_MemoryRecordsPy.next_batch, "f1779ecb6d0d344c"),
    "aiokafka _DefaultRecordBatchPy._read_msg": (_DefaultRecordBatchPy._read_msg, "0997ab7a58505c93"),
    "aiokafka _DefaultRecordBatchPy._maybe_uncompress": (_DefaultRecordBatchPy._maybe_uncompress, "c9d0dc2bed50cc86"),
    "aiokafka TopicPartitionState.seek": (TopicPartitionState.seek, "c20b56d7ba7b2872"),
    "aiokafka AIOKafkaConsumer.seek": (AIOKafkaConsumer.seek, "a9430f1f3b9ac419"),
}


@pytest.mark.parametrize("package", VERSIONS)
def test_version_is_the_one_that_was_reviewed(package: str) -> None:
    """Private methods are relied on, so any other version has to be read first."""
    assert VERSIONS[package] == version(package), f"review streams/consumer.py against {package} {version(package)}"


@pytest.mark.parametrize("name", SOURCES)
def test_private_method_is_unchanged(name: str) -> None:
    """The source of each method is what it was when the consumer was written."""
    method, reviewed = SOURCES[name]
    found = hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:16]
    assert reviewed == found, (
        f"{name} ({method.__module__}) has changed: read it, check what streams/consumer.py relies on, "
        f"then record its new hash {found} here"
    )
