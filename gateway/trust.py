"""Whether what answers over TLS is the gateway that we mean.

A certificate of an authority is verified as usual. One that no authority signed is noted by its
SHA-256 when somebody says so, and from then on that one alone is good: its names and dates say
nothing then.
"""

from __future__ import annotations

import hashlib
import hmac
import shlex
import socket
import ssl

from gateway.credentials import Address, Pins
from zerostor.core.errors import ZerostorError

UNSIGNED = (18, 19, 20, 21)
"""OpenSSL's numbers for chains that end nowhere: self-signed, or of an authority not known here."""


class Stranger(ZerostorError):
    """What answers is not the gateway that we know."""

    code = "stranger"


class UntrustedCertificate(Stranger):
    """No authority that this machine knows stands behind the certificate. number: OpenSSL's."""

    def __init__(self, url: str, error: ssl.SSLCertVerificationError) -> None:
        reason, self.number = error.verify_message, error.verify_code
        way = (f": `zerostor login {shlex.quote(url)}` shows it and remembers it"
               if self.number in UNSIGNED else "")
        super().__init__(f"the certificate of {url} is not good ({reason}){way}")


def tls_context(pins: Pins) -> ssl.SSLContext:
    """For connections to a gateway that is known by `pins`; see `check_certificate`."""
    context = ssl.create_default_context()
    if pins.certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def check_certificate(url: str, connected: ssl.SSLSocket, pins: Pins) -> None:
    """Raise Stranger if another certificate is known than the one it has."""
    shown = _digest(connected)
    if pins.certificate and not hmac.compare_digest(shown, pins.certificate):
        raise Stranger(changed(url, "certificate", pins.certificate, shown))


def changed(url: str, what: str, known: str, shown: str) -> str:
    """What to say of a pin that does not hold."""
    place = shlex.quote(url)
    return (f"THE {what.upper()} OF {url} HAS CHANGED: somebody may be in between, or the gateway"
            f" has a new one. Nothing secret was sent. Known: {known}; now: {shown}. If whoever"
            f" runs the gateway says that this is right: zerostor logout --forget {place}; zerostor"
            f" login {place}")


def unsigned_certificate(address: Address, timeout: float) -> str:
    """SHA-256 of the certificate there, as hex, if no authority signed it; else "".

    Raises UntrustedCertificate for one that is wrong in other ways, OSError.
    """
    place = (address.host, address.port)
    try:
        with (socket.create_connection(place, timeout) as plain,
              tls_context(Pins()).wrap_socket(plain, server_hostname=address.host)):
            return ""
    except ssl.SSLCertVerificationError as error:
        if error.verify_code not in UNSIGNED:
            raise UntrustedCertificate(address.text, error) from error
    # Any will do for this look; it is known by what it shows here from then on.
    with (socket.create_connection(place, timeout) as plain,
          tls_context(Pins(certificate="any")).wrap_socket(
              plain, server_hostname=address.host) as connected):
        return _digest(connected)


def _digest(connected: ssl.SSLSocket) -> str:
    return hashlib.sha256(connected.getpeercert(binary_form=True) or b"").hexdigest()
