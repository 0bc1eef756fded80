"""The worker of `small_segments`, whose commits wait two seconds for the ledger and not a minute.

`faust -A tests.integration.apps.impatient_ledger worker`
"""

from __future__ import annotations

import streams.ledger_writer
from tests.integration.apps.small_segments import app

streams.ledger_writer.WRITE_PATIENCE_SECONDS = 2.0

__all__ = ["app"]
