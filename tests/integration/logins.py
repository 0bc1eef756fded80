"""Ways to log in to the secure broker, as settings of a worker; and what must never show up in its log."""

from __future__ import annotations

import base64

from tests.services.kafka import PASSWORD, SUPERUSER, KafkaBroker
from tests.services.s3 import SECRET_KEY
from tests.services.worker import WorkerProcess

Login = dict[str, str]


def listener(broker: KafkaBroker, protocol: str) -> Login:
    """Where `protocol` is spoken, and the authority to trust where it is TLS."""
    settings = {
        "STREAMS_KAFKA_BOOTSTRAP_SERVERS": broker.address(protocol),
        "STREAMS_KAFKA_SECURITY_PROTOCOL": protocol,
    }
    if protocol.endswith("SSL"):
        assert broker.certificates is not None
        settings["STREAMS_KAFKA_SSL_CA_FILE"] = str(broker.certificates.ca_file)
    return settings


def sasl(
    broker: KafkaBroker, mechanism: str, protocol: str = "SASL_SSL", user: str = SUPERUSER, password: str = PASSWORD
) -> Login:
    """A login by name and password."""
    return listener(broker, protocol) | {
        "STREAMS_KAFKA_SASL_MECHANISM": mechanism,
        "STREAMS_KAFKA_SASL_USERNAME": user,
        "STREAMS_KAFKA_SASL_PASSWORD": password,
    }


def oauth(broker: KafkaBroker, token_url: str, protocol: str = "SASL_SSL", client_secret: str = PASSWORD) -> Login:
    """A login by a token that client id and secret are exchanged for."""
    return listener(broker, protocol) | {
        "STREAMS_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "STREAMS_KAFKA_OAUTH_TOKEN_URL": token_url,
        "STREAMS_KAFKA_OAUTH_CLIENT_ID": SUPERUSER,
        "STREAMS_KAFKA_OAUTH_CLIENT_SECRET": client_secret,
    }


def assert_log_keeps_secrets(worker: WorkerProcess) -> None:
    """No line shows a password, plain or in the form that travels to a server, nor a token."""
    log = worker.log()
    passwords = {value for name, value in worker.settings.items() if name.endswith(("_PASSWORD", "_SECRET"))}
    for secret in {PASSWORD, SECRET_KEY, *passwords}:
        forms = (secret, base64.b64encode(f"{SUPERUSER}:{secret}".encode()).decode())
        assert not [line for line in log.splitlines() if any(form in line for form in forms)]
    assert "eyJ" not in log, "the beginning of a token (a JSON object in base64)"
