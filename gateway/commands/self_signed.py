"""`--tls self-signed`: a certificate that is made here, for trying out; and what is served with."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.credentials import Pins
from zerostor.core.errors import SetupError

if TYPE_CHECKING:
    from gateway.tls import Certificates
    from zerostor.config import Config

DAYS = 825
"""The longest that browsers take of a certificate that somebody trusted by hand."""
RENEWED_DAYS = 30
"""Before it expires a new one is made, at the next start."""


def with_tls(config: Config, choice: str | None) -> Config:
    """The settings with a certificate in DATA/tls, made where there is none, if that was asked for.
    """
    if choice is None:
        return config
    import msgspec

    if config.gateway.tls_cert:
        raise SetupError("--tls self-signed: gateway.tls_cert names a certificate already")
    cert, key = _files(config)
    if not _is_good(cert, key):
        make_certificate(cert, key, config.gateway.listen.host)
    gateway = msgspec.structs.replace(config.gateway, tls_cert=str(cert), tls_key=str(key))
    return msgspec.structs.replace(config, gateway=gateway)


def is_self_signed(config: Config) -> bool:
    """Whether `with_tls` made what is served with."""
    return config.gateway.tls_cert == str(_files(config)[0])


def certificate_line(config: Config) -> dict[str, str]:
    """For the screen of `up`; nothing without TLS."""
    if not config.gateway.tls_cert:
        return {}
    return {"tls": f"SHA-256 {fingerprint(Path(config.gateway.tls_cert))}"}


def certificates_of(config: Config) -> Certificates | None:
    """What is served with, None for http."""
    if not config.gateway.tls_cert:
        return None
    from gateway.tls import Certificates

    return Certificates(Path(config.gateway.tls_cert), Path(config.gateway.tls_key))


def pinned(config: Config) -> Pins:
    """By which this host knows its own gateway, whoever signed the certificate, or nobody."""
    return Pins(certificate=fingerprint(Path(config.gateway.tls_cert))
                if config.gateway.tls_cert else "")


def fingerprint(cert: Path) -> str:
    """SHA-256 of the first certificate in a PEM file, as hex. Raises SetupError."""
    try:
        text = cert.read_text("ascii")
        start, end = text.index(ssl.PEM_HEADER), text.index(ssl.PEM_FOOTER)
        return hashlib.sha256(
            ssl.PEM_cert_to_DER_cert(text[start : end + len(ssl.PEM_FOOTER)])).hexdigest()
    except (OSError, ValueError) as error:
        raise SetupError(f"there is no certificate in {cert}: {error}") from error


def make_certificate(cert: Path, key: Path, host: str) -> None:
    """A new key of ECDSA over P-256, and a certificate by itself for this host. Raises SetupError.

    host: where it listens, beside the names that this host always has.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "zerostor, self-signed")])
    now, public = datetime.now(UTC), secret.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    usage = x509.KeyUsage(digital_signature=True, content_commitment=False, crl_sign=False,
                          key_encipherment=False, data_encipherment=False, key_agreement=False,
                          key_cert_sign=True, encipher_only=False, decipher_only=False)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(one)) if _is_address(one) else x509.DNSName(one)
             for one in _names(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(secret, hashes.SHA256()))
    _write(key, secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                     serialization.NoEncryption()), 0o600)
    _write(cert, made.public_bytes(serialization.Encoding.PEM), 0o644)


def _files(config: Config) -> tuple[Path, Path]:
    folder = config.paths.root / "tls"
    return folder / "cert.pem", folder / "key.pem"


def _is_good(cert: Path, key: Path) -> bool:
    from gateway.tls import Certificates

    try:
        left = Certificates(cert, key).expires - datetime.now(UTC).timestamp()
    except SetupError:
        return False
    return left > timedelta(days=RENEWED_DAYS).total_seconds()


def _names(host: str) -> list[str]:
    every = ["localhost", "127.0.0.1", "::1"]
    # Whatever a host is called, a certificate takes ASCII.
    named = [name for name in (socket.gethostname(), host)
             if name and name.isascii() and name not in ("0.0.0.0", "::")]  # noqa: S104
    return list(dict.fromkeys(every + named))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _write(file: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable for a moment by whom it is not for."""
    aside = file.with_suffix(".new")
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as written:
            written.write(content)
        aside.rename(file)
    except OSError as error:
        raise SetupError(f"cannot write {file}: {error.strerror}") from error
