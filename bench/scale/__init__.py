"""More workers for more load: `python -m bench.scale` (see docs/scale.md).

`rules` is the autoscaler's arithmetic, `simulation` plays it over loads that do not fit on this machine, `paper` sizes
a million events a second: all pure. `cluster` runs real workers, `steps` scales them out and in, `loop` lets the
autoscaler do it, `report` shows it.
"""
