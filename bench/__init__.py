"""Measures the worker beside what people would use instead: `python -m bench` (see docs/performance.md).

The way through it: `__main__` picks the parts, `parts` says what each of them runs, `workload` fills Kafka topics,
`load_server` answers the writes, `measure` runs one contender and reads the clocks, `report` and `charts` show it.
"""
