"""The worker as it is, but that ledger segments hold 20 events, or gaps of 60 characters, and commits 120 of them.

`faust -A tests.integration.apps.small_segments worker`
"""

from __future__ import annotations

import streams.application
import streams.ledger

streams.ledger.SEGMENT_EVENTS = 20
streams.ledger.SEGMENT_GAPS_CHARACTERS = 60
streams.ledger.MAX_METADATA_CHARACTERS = 120
app = streams.application.create_app()
