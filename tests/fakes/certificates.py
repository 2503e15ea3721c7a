"""Certificates for tests: signed by themselves, or by an authority of the test."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOCAL = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates; its own is in the file `path`."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.path = folder / "authority.pem"
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        made = _builder(self._name, self._name, self._key, DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).sign(self._key, hashes.SHA256())
        self.path.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def certificate(self, path: Path, *, name: x509.GeneralName = LOCAL,
                    days: float = 1) -> Path:
        """A PEM file with a new key and its certificate. days: until it ends."""
        key = ec.generate_private_key(ec.SECP256R1())
        return _written(path, key, _builder(_named("server"), self._name, key, days * DAY)
                        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
                        .sign(self._key, hashes.SHA256()))


def self_signed(path: Path) -> Path:
    """A PEM file with a new key and a certificate for 127.0.0.1 that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _written(path, key, _builder(_named("server"), _named("server"), key, DAY)
                    .add_extension(x509.SubjectAlternativeName([LOCAL]), critical=False)
                    .sign(key, hashes.SHA256()))


def fingerprint(path: Path) -> str:
    """SHA-256 of the certificate in a PEM file, as hex."""
    return x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex()


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey,
             left: datetime.timedelta) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY).not_valid_after(now + left))


def _written(path: Path, key: ec.EllipticCurvePrivateKey, made: x509.Certificate) -> Path:
    path.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()) + made.public_bytes(serialization.Encoding.PEM))
    return path
