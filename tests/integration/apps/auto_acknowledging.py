"""The worker with an agent that somebody has added and that lets Faust acknowledge its events, for `test_start`.

`faust -A tests.integration.apps.auto_acknowledging worker`
"""

from __future__ import annotations

from typing import Any

from streams.application import create_app

app = create_app()


@app.agent(app.topic(*app.settings.topic_names), name="careless")
async def careless(stream: Any) -> None:
    """Faust acknowledges each event as soon as the next one is asked for."""
    async for _ in stream:
        pass
