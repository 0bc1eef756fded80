"""The checks before the worker joins its group: what cannot work ends here, in one message, with exit code 2.

Only what makes consuming impossible is checked. An S3 that refuses or is away is no reason not to start: events hold,
and the worker says so.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException

from streams.errors import ConfigurationError
from streams.kafka.admin import COORDINATOR_SECONDS, Committed, KafkaAdmin, Topic, once_coordinated
from streams.kafka.connection import client_options
from streams.kafka.group_offsets import committed_offsets
from streams.kafka.problems import Problem, connection_problem, explain
from streams.record import TopicPartition
from streams.settings import Settings

logger = logging.getLogger(__name__)

TOPICS_SHOWN = 10


async def check_kafka(settings: Settings, admin: KafkaAdmin | None = None) -> list[str]:
    """Reach a broker, see the topics and the group; the names of the topics to consume. `admin` asks, if it is given.

    Takes ten seconds at most to find that no broker can be used, and twenty more where the group has no coordinator.

    Raises:
        ConfigurationError: with the setting to correct.
    """
    await check_connection(settings)
    admin = KafkaAdmin(settings) if admin is None else admin
    try:
        await asyncio.to_thread(admin.open)
        names, missing = await _topics(admin, settings)
        await _check_group(admin, settings, names[0])
        if missing:
            await _go_on_without(missing, names, settings)
    except KafkaException as error:
        problem = explain(error.args[0], settings)
        raise ConfigurationError(
            f"Kafka answered at STREAMS_KAFKA_BOOTSTRAP_SERVERS, but then failed: {problem} "
            "Can this machine reach the brokers at the addresses that they advertise?"
        ) from error
    return sorted([*names, *missing])


def check_web_port(settings: Settings) -> None:
    """Raises ConfigurationError when the address of the web endpoints is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.web_bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.web_bind, settings.web_port))
        except OSError as error:
            raise ConfigurationError(
                f"the web endpoints cannot listen on {settings.web_bind}:{settings.web_port} ({error.strerror}). "
                "Set STREAMS_WEB_BIND and STREAMS_WEB_PORT to a free address, or STREAMS_WEB_ENABLED=false."
            ) from error


async def check_connection(settings: Settings) -> None:
    """One of the bootstrap servers can be used: all are tried at once, since each may take its ten seconds.

    Raises:
        ConfigurationError: none can, each with why and the setting to correct.
    """
    servers = settings.kafka_bootstrap_servers.split(",")
    attempts = {asyncio.create_task(connection_problem(settings, server)): server for server in servers}
    failures: dict[str, Problem] = {}
    try:
        for finished in asyncio.as_completed(attempts):
            await finished
            failures |= _failures(attempts)
            if any(task.done() and task.result() is None for task in attempts):
                return
    finally:
        for task in attempts:
            task.cancel()
    lines = (f"  {server}: {failures[server]}" for server in servers)
    raise ConfigurationError("no Kafka broker could be used:\n" + "\n".join(lines))


def _failures(attempts: Mapping[asyncio.Task[Problem | None], str]) -> dict[str, Problem]:
    results = {server: task.result() for task, server in attempts.items() if task.done()}
    return {server: problem for server, problem in results.items() if problem is not None}


async def _topics(admin: KafkaAdmin, settings: Settings) -> tuple[list[str], list[str]]:
    """Those that are there, and those of the list that are not; some are there, else it is a mistake."""
    pattern = settings.topic_pattern
    found = (await admin.cluster(None if pattern else settings.topic_names)).topics
    if pattern:
        return matching_topics(pattern, found), []
    missing, denied = (_refused(found, code) for code in _TOPIC_PROBLEMS)
    if denied or len(missing) == len(found):
        raise ConfigurationError("\n".join(_problems(missing, denied)))
    return sorted(found.keys() - missing), missing


def _problems(missing: list[str], denied: list[str]) -> list[str]:
    return [
        message.format(", ".join(names))
        for names, message in zip((missing, denied), _TOPIC_PROBLEMS.values(), strict=True)
        if names
    ]


async def _go_on_without(missing: list[str], names: list[str], settings: Settings) -> None:
    """A group at work goes on when one of its topics was deleted; a group that has never committed has a mistake."""
    options, places = client_options(settings), [TopicPartition(name, 0) for name in names]
    try:
        committed = await committed_offsets(options, settings.consumer_group, places, COORDINATOR_SECONDS)
    except KafkaException:
        committed = {}  # nobody can say that the group is new
    if committed and not any(isinstance(one, Committed) for one in committed.values()):
        raise ConfigurationError("\n".join(_problems(missing, [])))
    logger.warning(
        "STREAMS_TOPICS names topics that are not there (any more): %s. The others go on; take them out, or create "
        "them again",
        ", ".join(missing),
    )


_TOPIC_PROBLEMS: Mapping[int, str] = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "STREAMS_TOPICS names topics that do not exist (or that this user may not see): "
    "{}. Create them, correct the name, or allow READ on them.",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "STREAMS_TOPICS names topics that this user may not read: {}. "
    "Add an ACL that allows READ (and DESCRIBE) on them.",
}


def _refused(topics: Mapping[str, Topic | KafkaError], code: int) -> list[str]:
    """The topics for which the broker answered with an error of this code."""
    return sorted(name for name, found in topics.items() if isinstance(found, KafkaError) and found.code() == code)


def matching_topics(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    """The topics that a pattern of `STREAMS_TOPICS` means; Kafka's own (`__consumer_offsets`) never.

    Raises:
        ConfigurationError: none matches.
    """
    found = sorted(name for name in names if not name.startswith("__") and pattern.match(name))
    if not found:
        seen = sorted(name for name in names if not name.startswith("__"))
        shown = ", ".join(seen[:TOPICS_SHOWN]) + (", …" if len(seen) > TOPICS_SHOWN else "")
        raise ConfigurationError(
            f"STREAMS_TOPICS={pattern.pattern} matches no topic. This user sees: {shown or 'none at all'}."
        )
    return found


async def _check_group(admin: KafkaAdmin, settings: Settings, topic: str) -> None:
    """A group that this user may not use. A coordinator that is away is no mistake: the worker waits for it.

    The offsets are asked for first: librdkafka's admin client ends the process (issues 4605 and 5040) where it asks a
    coordinator that is going away, or is none yet.
    """
    try:
        await committed_offsets(
            client_options(settings), settings.consumer_group, [TopicPartition(topic, 0)], COORDINATOR_SECONDS
        )
        group = await once_coordinated(lambda: admin.group(settings.consumer_group))
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise ConfigurationError(f"{explain(error.args[0], settings)}") from error
        if error.args[0].code() == KafkaError._UNSUPPORTED_FEATURE:
            return  # brokers that cannot describe a group: whether it may be used shows when it is joined
        logger.warning("the group's coordinator could not be asked at the start: %s", error.args[0].name())
        return
    if group.operations is not None and "READ" not in group.operations:
        raise ConfigurationError(str(explain(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED), settings)))
