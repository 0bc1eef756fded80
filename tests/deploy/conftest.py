"""What tests of the deployment files share: reading YAML, and the settings that exist."""

from __future__ import annotations

from streams.settings import Settings

SETTINGS = {f"STREAMS_{name.upper()}" for name in Settings.model_fields}
"""Every variable that a worker accepts."""
