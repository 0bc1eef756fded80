"""What the consumer and the process take for granted of Faust and mode, beyond their documented interfaces."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
from faust.agents.agent import Agent
from faust.app.base import App
from faust.streams import Stream
from faust.transport.base import Transport
from faust.transport.conductor import Conductor
from faust.transport.consumer import Consumer
from faust.worker import Worker
from mode.worker import Worker as ModeWorker

from streams.consumer import WatermarkConsumer, WatermarkTransport

VERSIONS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1"}


@pytest.mark.parametrize("package", VERSIONS)
def test_version_is_the_one_that_was_reviewed(package: str) -> None:
    """Another one has to be read first: what follows, and the tests on brokers."""
    assert VERSIONS[package] == version(package), f"review streams/consumer and streams/worker.py against {package}"


def test_every_abstract_method_is_implemented() -> None:
    """A new one would otherwise be noticed when the first worker starts."""
    assert frozenset() == getattr(WatermarkConsumer, "__abstractmethods__", frozenset())
    abstract = {name for name in Consumer.__abstractmethods__ if name in vars(WatermarkConsumer)}
    assert {"_commit", "seek_to_committed", "_getmany", "_to_message"} <= abstract


def test_no_private_method_is_overridden_but_abstract_ones() -> None:
    """What Faust does not offer as a place for it is not ours to change."""
    private = {
        name
        for name, value in vars(WatermarkConsumer).items()
        if name.startswith("_") and not name.startswith("__") and inspect.isfunction(value) and hasattr(Consumer, name)
    }
    assert private <= Consumer.__abstractmethods__


def test_transport_is_asked_for_what_we_give_it() -> None:
    """Consumer and fetcher are class attributes of the transport."""
    assert {"Consumer", "Fetcher"} <= vars(Transport).keys()
    assert issubclass(WatermarkTransport, Transport)


def test_places_that_are_used_are_there() -> None:
    """By name: what `streams.consumer` and `streams.worker` call or replace."""
    for owner, names in {
        App: ("on_rebalance_start", "on_partitions_revoked", "consumer_generation_id"),
        Agent: ("_actors",),
        Stream: ("noack", "get_active_stream"),
        Conductor: ("on_message",),
        Worker: ("_setup_logging",),
        ModeWorker: ("install_signal_handlers", "stop_and_shutdown"),
    }.items():
        missing = [name for name in names if not (hasattr(owner, name) or name in _instance_names(owner))]
        assert [] == missing, f"{owner.__name__} has no {', '.join(missing)}"


def _instance_names(owner: type) -> str:
    """The source of a class, in which attributes are made that only instances have."""
    return "".join(inspect.getsource(base) for base in owner.__mro__ if base.__module__.startswith(("faust", "mode")))
