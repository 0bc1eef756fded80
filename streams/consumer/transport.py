"""Makes Faust use this consumer: set it as `app.transport` before the agents are declared."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from faust.transport.base import Transport
from mode import Service
from mode.utils.queues import FlowControlEvent

from streams.consumer.consumer import WatermarkConsumer
from streams.consumer.options import ConsumerOptions


class Intake(Service):
    """Faust's fetcher: carries events from the poller's handover to the agents for as long as it runs."""

    mundane_level = "debug"

    def __init__(self, app: Any, **kwargs: Any) -> None:
        self._app = app
        super().__init__(**kwargs)

    @Service.task
    async def _carry(self) -> None:
        consumer = cast(WatermarkConsumer, self._app.consumer)
        await consumer.take_in(lambda: self.should_stop or consumer.should_stop)


class KeptFlow(FlowControlEvent):
    """Faust's flow control, which keeps what is in the agents' queue, and lets the agents have it.

    Faust empties the queue with every assignment and at the end, and its streams drop what they get while it is
    suspended, for its own consumer reads everything again. This one reads on: a run that vanished would never be
    written nor acknowledged, and its partition never committed past. At the end `Run.begin` refuses what Kafka delivers
    again; the rest is written.
    """

    def suspend(self) -> None:
        """Keep on: the poller stops by itself."""

    def clear(self) -> None:
        """Keep everything."""


class WatermarkTransport(Transport):
    """Faust's transport over librdkafka. No producer is started, so none needs an ACL."""

    Consumer: ClassVar[type[WatermarkConsumer]] = WatermarkConsumer
    Fetcher: ClassVar[type[Intake]] = Intake
    driver_version = "confluent-kafka"

    def __init__(self, url: Any, app: Any, options: ConsumerOptions) -> None:
        self.options = options
        super().__init__(url, app)
