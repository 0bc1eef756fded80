"""An hour at a steady load with a fault every few minutes: `python -m bench.soak` (see docs/soak.md).

The way through it: `plan` says when which fault comes, `site` holds broker, S3, proxy, workers and load, `faults`
breaks them, `watch` samples, `trend` judges what grows, `run` does all that in order, `report` shows it.
"""
