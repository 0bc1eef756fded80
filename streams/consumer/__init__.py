"""Faust's consumer on librdkafka, with the bookkeeping that loses nothing above concurrency 1.

    poller (its own thread: librdkafka) → handover → consumer → runs → the agent's queue
    the agent's acknowledgements → watermark → commits → poller

Only public and abstract methods of Faust's classes are implemented; none of librdkafka's work is done by hand.
`docs/delivery-guarantee.md` says what must hold, `docs/architecture.md` why it is built like this.
"""

from streams.consumer.consumer import WatermarkConsumer
from streams.consumer.options import ConsumerOptions
from streams.consumer.runs import Run, RunSchema
from streams.consumer.transport import KeptFlow, WatermarkTransport

__all__ = ["ConsumerOptions", "KeptFlow", "Run", "RunSchema", "WatermarkConsumer", "WatermarkTransport"]
