"""What [gateway], [limits] and [audit] may say."""

from __future__ import annotations

import ipaddress
import re

from zerostor.core.errors import SetupError
from zerostor.core.settings import (
    KEYS_MODE,
    PUBLIC_MODE,
    SECRET_MIN,
    SECRET_MODE,
    AuditSettings,
    GatewaySettings,
    LimitsSettings,
    nearest,
)

HEADER_TIMEOUT_MAX = 3600.0
AUDIT_OFF, AUDIT_ALL = "off", "all"
AUDIT_LOGS = ("writes", AUDIT_ALL, AUDIT_OFF)
AUDIT_SIZE_MIN, AUDIT_KEEP_MAX = 10_000, 1000
_MODES = (PUBLIC_MODE, SECRET_MODE, KEYS_MODE)
_ORIGIN = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?", re.ASCII)
_SECRET = re.compile(r"[!-~]{1,1024}", re.ASCII)
"""What a header can carry as it is."""


def check_gateway(gateway: GatewaySettings) -> None:
    """Raise SetupError for values that cannot work, or protect less than they seem to."""
    if gateway.max_upload < 1:
        raise SetupError("gateway.max_upload must be at least 1 byte")
    if gateway.public_url and not re.fullmatch(r"https?://[^\s/]+[^\s]*", gateway.public_url):
        raise SetupError("gateway.public_url must start with http:// or https:// and name a host")
    _check_content(gateway)
    if bool(gateway.tls_cert) != bool(gateway.tls_key):
        raise SetupError("gateway.tls_cert and gateway.tls_key belong together: name both files")
    for network in gateway.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise SetupError(f"gateway.trusted_proxies: {error}; write addresses or networks, as"
                             " 10.0.0.5 or 10.0.0.0/8") from None
    _check_security(gateway)


def check_limits(limits: LimitsSettings) -> None:
    """Raise SetupError for limits that shut everybody out, or that are none."""
    for name in limits.__struct_fields__:
        if getattr(limits, name) < 0:
            raise SetupError(f"limits.{name} is less than nothing; 0 is for no limit")
    if limits.connections < 1:
        raise SetupError("limits.connections must be at least 1: each takes memory")
    if not 1 <= limits.header_timeout <= HEADER_TIMEOUT_MAX:
        raise SetupError(f"limits.header_timeout is {limits.header_timeout:g} s; it may be 1 to"
                         f" {HEADER_TIMEOUT_MAX:g}")
    if limits.spool_share > 100:
        raise SetupError(f"limits.spool_share is {limits.spool_share} per cent of a disk")


def check_audit(audit: AuditSettings) -> None:
    """Raise SetupError for a log that would be none, or of no known size."""
    if audit.log not in AUDIT_LOGS:
        raise SetupError(f"audit.log is {audit.log!r}{nearest(audit.log, AUDIT_LOGS)}")
    if audit.size < AUDIT_SIZE_MIN:
        raise SetupError(f"audit.size is at least {AUDIT_SIZE_MIN} bytes")
    if not 0 <= audit.keep <= AUDIT_KEEP_MAX:
        raise SetupError(f"audit.keep is 0 to {AUDIT_KEEP_MAX} files")


def _check_content(gateway: GatewaySettings) -> None:
    content = _ORIGIN.fullmatch(gateway.content_url)
    if not gateway.content_url:
        return
    if content is None:
        raise SetupError("gateway.content_url is http:// or https:// and the name of a host, as"
                         " https://files.example.org, without a path")
    public = _ORIGIN.match(gateway.public_url)
    if public is not None and public[1].lower() == content[1].lower():
        # Cookies and permissions of browsers do not tell ports apart.
        raise SetupError("gateway.content_url has the host of gateway.public_url: it has to be"
                         " another name, so that what is stored cannot act as the gateway")


def _check_security(gateway: GatewaySettings) -> None:
    mode, secret = gateway.security, gateway.secret.reveal()
    if mode not in _MODES:
        raise SetupError(f"gateway.security is {mode!r}{nearest(mode, _MODES)}")
    if gateway.keys_file and mode != KEYS_MODE:
        raise SetupError(f"gateway.keys_file is of no use with gateway.security = \"{mode}\": for"
                         f" keys it is \"{KEYS_MODE}\"")
    if mode != SECRET_MODE:
        if secret:
            # Whoever gives one believes that it is asked for.
            raise SetupError(f"there is a secret (gateway.secret_file, ZEROSTOR_GATEWAY_SECRET),"
                             f" and gateway.security is \"{mode}\", which asks for none: make that"
                             f" \"{SECRET_MODE}\", or leave the secret out")
        return
    if not secret:
        raise SetupError(f"gateway.security is \"{mode}\" and there is none: name a file with it in"
                         " gateway.secret_file, or set ZEROSTOR_GATEWAY_SECRET; make one with"
                         " `openssl rand -hex 24`")
    if len(secret) < SECRET_MIN or _SECRET.fullmatch(secret) is None:
        raise SetupError(f"the secret of the gateway is {SECRET_MIN} to 1024 letters, digits and"
                         " signs without blanks: make one with `openssl rand -hex 24`")
