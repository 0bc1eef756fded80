"""What `faust -A streams doctor` checks of the machine and of Kafka, as findings with remedies (S3: `sinks.s3_doctor`).

`examination` runs it all; nothing here knows of a terminal.
"""
