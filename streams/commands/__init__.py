"""The commands of `faust -A streams`: importing this package makes Faust know them."""

from __future__ import annotations

from streams.commands import doctor as doctor
from streams.commands import get as get
from streams.commands import redrive as redrive
from streams.commands import repair as repair
from streams.commands import restore as restore
from streams.commands import verify as verify
