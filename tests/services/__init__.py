"""The real parts that tests run against, each a class that starts a process of its own on free ports.

`install` gets the programs, `kafka` and `s3` run them, `s3_proxy` puts faults between a worker and S3, `oauth` hands
out tokens, `worker` runs `faust -A streams worker`, and `archive` proves that what Kafka holds is what S3 holds.
"""
