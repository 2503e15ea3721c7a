"""What proves that a request between hosts of a cluster comes from one of them.

    token    hex of payload "." hex of mac
    payload  msgpack [worker, expires as epoch seconds, 8 random bytes]
    mac      keyed BLAKE3 over msgpack ["request", payload, method, path, BLAKE3 of the body]
    seal     of a reply: hex of keyed BLAKE3 over msgpack ["reply", mac, BLAKE3 of its body]
    place    of a gateway: url " " hex of keyed BLAKE3 over msgpack ["place", spool, url]
    closed   what hosts share by Redis: keyed BLAKE3 over msgpack ["shared", name, body], then body

The key is derived from the text in cluster.secret_file. Path and body name the jobs, so a token is
good for one request, for minutes. It travels in a header: never in a URL, and never into a log.
"""

from __future__ import annotations

import binascii
import hmac
from typing import NamedTuple

import msgspec
from blake3 import blake3

from zerostor.core.errors import NotAllowed
from zerostor.core.msgpack import UNDECODABLE

TOKEN_SECONDS = 180.0
"""How long a token is good; the clocks of two hosts may differ by about as much."""
TOKEN_MAX = 1024
_MAC_SIZE = 32
_PURPOSE = "zerostor 2026-11-21 requests between hosts of a cluster"


class _Payload(NamedTuple):
    worker: str
    expires: float
    nonce: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Payload).decode


class ClusterKey:
    """Makes and checks tokens with one secret."""

    __slots__ = ("_key",)

    def __init__(self, secret: str) -> None:
        self._key = blake3(secret.encode(), derive_key_context=_PURPOSE).digest()

    def token(self, worker: str, method: str, path: str, body: bytes, *, now: float,
              nonce: bytes) -> str:
        """A token for one request. now: epoch seconds; nonce: 8 random bytes."""
        payload = _encode(_Payload(worker, now + TOKEN_SECONDS, nonce))
        return f"{payload.hex()}.{self._mac(payload, method, path, body).hex()}"

    def check(self, token: str, method: str, path: str, body: bytes, *, now: float) -> str:
        """The worker that made the token for this request. Raises NotAllowed."""
        payload, mac = _parts(token)
        if not hmac.compare_digest(mac, self._mac(payload, method, path, body)):
            raise NotAllowed("the token is not one of this cluster for this request")
        try:
            worker, expires, _ = _decode(payload)
        except UNDECODABLE:
            raise NotAllowed("the token cannot be read") from None
        # One that is good for longer comes from a clock that is far ahead of ours.
        if not now < expires <= now + 2 * TOKEN_SECONDS:
            raise NotAllowed("the token is not of this time: compare the clocks of the hosts")
        return worker

    def seal(self, token: str, body: bytes) -> str:
        """What proves that `body` is the reply to the request with `token`."""
        return self._seal(token, body).hex()

    def is_sealed(self, seal: str, token: str, body: bytes) -> bool:
        """Whether `seal` is that of `body` as the reply to our request."""
        return hmac.compare_digest(_bytes(seal), self._seal(token, body))

    def place(self, spool: str, url: str) -> str:
        """`url` as the gateway with `spool` announces it."""
        return f"{url} {self._keyed('place', spool, url).hex()}"

    def url_in(self, spool: str, place: str) -> str | None:
        """The url in what was announced; None if that was no host of this cluster."""
        url, _, proof = place.rpartition(" ")
        known = hmac.compare_digest(_bytes(proof), self._keyed("place", spool, url))
        return url if known else None

    def closed(self, name: str, body: bytes) -> bytes:
        """`body` as the hosts of a cluster share it under `name`; anyone may read it."""
        return self._keyed("shared", name, body) + body

    def opened(self, name: str, closed: bytes) -> bytes | None:
        """The body in what is shared; None if that was no host of this cluster."""
        proof, body = closed[:_MAC_SIZE], closed[_MAC_SIZE:]
        return body if hmac.compare_digest(proof, self._keyed("shared", name, body)) else None

    def _mac(self, payload: bytes, method: str, path: str, body: bytes) -> bytes:
        return self._keyed("request", payload, method, path, blake3(body).digest())

    def _seal(self, token: str, body: bytes) -> bytes:
        return self._keyed("reply", _parts(token)[1], blake3(body).digest())

    def _keyed(self, *parts: str | bytes) -> bytes:
        return blake3(_encode(parts), key=self._key).digest()


def _parts(token: str) -> tuple[bytes, bytes]:
    payload, _, mac = token[:TOKEN_MAX].partition(".")
    return _bytes(payload), _bytes(mac)


def _bytes(text: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        return b""
