"""What every sink must keep, whatever it is made of: one suite, run over both S3 clients.

`test_sink_contract` runs against the real S3 server; `test_s3_wire` and `test_s3_failures` against a small HTTP server
that records requests and answers what a test tells it to; `test_s3_credentials` against both.
"""
