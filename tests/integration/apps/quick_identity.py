"""The worker as it is, but that it asks again after a second whose events the bucket holds, for `test_topic_identity`.

`faust -A tests.integration.apps.quick_identity worker`
"""

from __future__ import annotations

import streams.application
from streams.consumer.lives import TopicLives

TopicLives.ask_again_seconds = 1.0
app = streams.application.create_app()
