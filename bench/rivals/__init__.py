"""Measures what people would run instead, beside ours: `python -m bench.rivals` (see docs/rivals.md).

The way through it: `install` gets the rivals, `systems` says who they are and how each is configured, `plan` who runs
what and in which order, `kill` ends one with `kill -9` and counts, `report` and `results` show and keep the numbers.
Everything else is the benchmark's own: broker, load server, topics, clocks (`bench`).
"""
