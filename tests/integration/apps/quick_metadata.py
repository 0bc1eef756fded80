"""The worker as it is, but that it asks for the topics' partitions every second and not every five minutes.

`faust -A tests.integration.apps.quick_metadata worker`, for `test_handbook`.
"""

from __future__ import annotations

import streams.application

app = streams.application.create_app()
app.conf.consumer_metadata_max_age_ms = 1000
