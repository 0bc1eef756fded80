"""The worker as it is, but that it looks for new topics every second and not every minute, for `test_events`.

`faust -A tests.integration.apps.quick_topic_refresh worker`
"""

from __future__ import annotations

import streams.application

streams.application.TOPIC_REFRESH_SECONDS = 1.0
app = streams.application.create_app()
