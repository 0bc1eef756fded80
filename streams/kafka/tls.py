"""TLS by Python, for what librdkafka does not tell of a broker's certificate: why it is not trusted, when it expires.

No event goes over such a connection.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from streams.settings import Settings

_HANDSHAKE_SECONDS: Final = 5.0


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """What a handshake checks, as librdkafka would: `None` where the protocol has no TLS.

    Raises:
        OSError: a file cannot be used (`ssl.SSLError` is one).
    """
    if not settings.uses_tls:
        return None
    context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)
    if settings.kafka_ssl_cert_file is not None:
        password = settings.kafka_ssl_key_password
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(
            settings.kafka_ssl_cert_file,
            settings.kafka_ssl_key_file,
            password.get_secret_value() if password else "",
        )
    return context


async def why_untrusted(host: str, port: int, settings: Settings) -> str:
    """OpenSSL's reason not to accept the certificate at an address; empty where there is none or none was heard."""
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=ssl_context(settings))
    except ssl.SSLCertVerificationError as error:
        return error.verify_message.rstrip(".")
    except (OSError, TimeoutError):
        return ""
    writer.transport.abort()
    return ""
