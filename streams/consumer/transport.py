"""Makes Faust use this consumer: set it as `app.transport` before the agents are declared."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from faust.transport.base import Transport
from mode import Service

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


class WatermarkTransport(Transport):
    """Faust's transport over librdkafka. No producer is started, so none needs an ACL."""

    Consumer: ClassVar[type[WatermarkConsumer]] = WatermarkConsumer
    Fetcher: ClassVar[type[Intake]] = Intake
    driver_version = "confluent-kafka"

    def __init__(self, url: Any, app: Any, options: ConsumerOptions) -> None:
        self.options = options
        super().__init__(url, app)
