"""Kafka by librdkafka (confluent-kafka): connecting, explaining failures, topics, offsets, events without a group.

Nothing here knows Faust. The worker's consumer (`streams.consumer`) and every command stand on these modules.
"""
