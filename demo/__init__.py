"""The product in one command, on a machine with nothing but Python: `python -m demo`, or `make demo`.

`broker` (librdkafka's mock cluster) and `object_store` (moto's S3 and SQS servers) are embedded; the worker is the real
one, in a process of its own, reached over the real wire protocols. `benchmark` is the published work it is given,
`check` compares what arrived with what was sent, `report` prints, and `__main__` is the order of events, `queue` the
same with SQS (`SINK=sqs`).
"""
