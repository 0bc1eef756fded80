"""Throw-away certificates for the secure broker: an authority, the broker's own, and one client's."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT_KEY_PASSWORD = "key-secret"
_LIFETIME = datetime.timedelta(days=2)


@dataclass(frozen=True)
class Certificates:
    """Files, all PEM. `client_key_encrypted_file` is `client_key_file` under `CLIENT_KEY_PASSWORD`."""

    ca_file: Path
    broker_keystore_file: Path
    client_cert_file: Path
    client_key_file: Path
    client_key_encrypted_file: Path
    other_ca_file: Path


def make_certificates(directory: Path, client_name: str) -> Certificates:
    """Write everything into `directory`; the client's certificate has the common name `client_name`.

    `other_ca_file` is an authority that has signed nothing, for the test of a broker that is not trusted.
    """
    ca_key, ca = _authority("streams tests")
    broker_key, broker = _signed("localhost", ca_key, ca, ExtendedKeyUsageOID.SERVER_AUTH)
    client_key, client = _signed(client_name, ca_key, ca, ExtendedKeyUsageOID.CLIENT_AUTH)
    plain = serialization.NoEncryption()
    encrypted = serialization.BestAvailableEncryption(CLIENT_KEY_PASSWORD.encode())
    return Certificates(
        ca_file=_write(directory / "ca.pem", _pem(ca)),
        broker_keystore_file=_write(directory / "broker.pem", _key_pem(broker_key, plain) + _pem(broker) + _pem(ca)),
        client_cert_file=_write(directory / "client.pem", _pem(client)),
        client_key_file=_write(directory / "client.key", _key_pem(client_key, plain)),
        client_key_encrypted_file=_write(directory / "client-encrypted.key", _key_pem(client_key, encrypted)),
        other_ca_file=_write(directory / "other-ca.pem", _pem(_authority("somebody else")[1])),
    )


def _authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _signed(
    name: str, ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, usage: x509.ObjectIdentifier
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        _builder(_name(name), ca.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Python 3.13 verifies strictly (RFC 5280) and asks for this one.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return key, certificate


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
