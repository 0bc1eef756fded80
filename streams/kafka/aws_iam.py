"""Logging in to Amazon MSK with the AWS identity of the process (IAM access control), through AWS's own signer.

The signer finds credentials as every AWS library does (environment, profile, SSO, IRSA, container, instance), without
connecting to Kafka or MSK: a token is a signed request that the broker sends on. It is imported when it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from streams.errors import StreamsError

logger = logging.getLogger(__name__)

TokenCallback = Callable[[str], tuple[str, float]]
"""librdkafka's `oauth_cb`: takes `sasl.oauthbearer.config`, gives a token and the time (Unix, seconds) it ends at."""


class AwsTokenError(StreamsError):
    """No token could be signed; the message says why, without anything of the credentials."""


def token_callback(region: str) -> TokenCallback:
    """What librdkafka asks for a token, in a thread of its own, when four fifths of the last one's life are over."""

    def ask(_config: str) -> tuple[str, float]:
        try:
            return signed_token(region)
        except AwsTokenError as error:
            # librdkafka asks again ten seconds later; all that it could tell is that there was no token.
            logger.error("cannot log in to Kafka: %s", error)
            raise

    return ask


def signed_token(region: str) -> tuple[str, float]:
    """A token for the brokers of a region, and the time (Unix, seconds) it ends at: a quarter of an hour from now.

    Raises:
        AwsTokenError: there are no credentials, or they cannot be used.
    """
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # here, because it brings boto3, and few need it

    try:
        token, ends_at_ms = MSKAuthTokenProvider.generate_auth_token(region)
    except AttributeError as error:  # the signer does not look whether it has found any
        raise AwsTokenError("no AWS credentials were found for STREAMS_KAFKA_SASL_MECHANISM=AWS_MSK_IAM") from error
    except Exception as error:
        # botocore's tree of errors, and what each way to credentials adds of its own.
        raise AwsTokenError(f"the AWS credentials cannot be used: {type(error).__name__}: {error}") from error
    return token, ends_at_ms / 1000
