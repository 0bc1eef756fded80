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
    """Faust's flow control, which keeps what is in the agents' queue when it is resumed.

    Faust resumes with every assignment and empties the queue then, for its own consumer reads everything again. This
    one reads on: a run that vanished would never be written nor acknowledged, and its partition never committed past.
    """

    _resuming = False

    def resume(self) -> None:
        """Let events into the queues."""
        self._resuming = True
        try:
            super().resume()
        finally:
            self._resuming = False

    def clear(self) -> None:
        """Empty the queues, at the end of the worker."""
        if not self._resuming:
            super().clear()


class WatermarkTransport(Transport):
    """Faust's transport over librdkafka. No producer is started, so none needs an ACL."""

    Consumer: ClassVar[type[WatermarkConsumer]] = WatermarkConsumer
    Fetcher: ClassVar[type[Intake]] = Intake
    driver_version = "confluent-kafka"

    def __init__(self, url: Any, app: Any, options: ConsumerOptions) -> None:
        self.options = options
        super().__init__(url, app)
