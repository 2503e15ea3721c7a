"""The handshake of EDN/1 at the hub: who is it, and do both sides have the key."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from typing import NamedTuple

from zerostor.core.errors import LinkBroken
from zerostor.core.node_wire import (
    KEY_SIZE,
    NONCE_SIZE,
    PROOF_SIZE,
    PROTOCOL,
    SEGMENT,
    Hello,
    Keys,
    Kind,
    Refused,
    challenge,
    key_hint,
    link_keys,
    parse_hello,
    refusal,
)
from zerostor.core.nodes import Node
from zerostor.nodes.link import Link
from zerostor.ports import RandomBytes

GREETING_SECONDS = 20.0
"""For all of it. A chip with nothing else to do needs two round trips and 20 ms."""


class Guest(NamedTuple):
    """A node that has proven who it is. key: which of `node.keys` it used."""

    node: Node
    key: int
    hello: Hello
    keys: Keys


class Greeting:
    """One handshake. name: what the caller said of itself so far, unproven. fits: with the hint of
    a key of that node, which strangers do not know.
    """

    def __init__(self, find: Callable[[str], Node | None], random_bytes: RandomBytes,
                 heartbeat: int) -> None:
        self._find = find
        self._random = random_bytes
        self._heartbeat = heartbeat
        self.name = ""
        self.fits = False

    @property
    def known(self) -> bool:
        """Whether a node of that name may dial in."""
        return self._find(self.name) is not None

    async def welcome(self, link: Link) -> Guest:
        """Everything up to, and without, READY. Raises LinkBroken with the reason, which is said
        to the caller only where it helps a node that is honest.
        """
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                return await self._shake(link)
        except TimeoutError:
            raise LinkBroken(f"it did not say who it is in {GREETING_SECONDS:g} s") from None

    async def _shake(self, link: Link) -> Guest:
        frame = await link.receive(GREETING_SECONDS)
        if frame.kind != Kind.HELLO:
            raise LinkBroken("it did not begin with a greeting")
        hello = parse_hello(frame.payload)
        self.name = hello.name
        if not hello.lowest <= PROTOCOL <= hello.highest:
            sentence = f"hub speaks EDN {PROTOCOL}, you {hello.lowest} to {hello.highest}"
            await link.say_and_close(Kind.ERR, refusal(Refused.VERSION, sentence))
            raise LinkBroken(f"it speaks EDN {hello.lowest} to {hello.highest}, this hub"
                             f" {PROTOCOL}: flash it anew")
        node, key = await self._known(link, hello)
        self.fits = True
        secret = bytes.fromhex(node.keys[key].reveal())
        challenged = challenge(self._random(NONCE_SIZE), self._heartbeat, wipe=node.wipe)
        keys = link_keys(secret, hello.raw, challenged)
        await link.send(Kind.CHAL, 0, challenged + keys.hub_proof)
        frame = await link.receive(GREETING_SECONDS)
        if frame.kind != Kind.AUTH or len(frame.payload) != PROOF_SIZE:
            raise LinkBroken("it did not answer with its proof")
        if not hmac.compare_digest(frame.payload, keys.node_proof):
            raise LinkBroken("it has not the key of this node")
        link.begin_tags(keys.to_node, keys.to_hub)
        return Guest(node, key, hello, keys)

    async def _known(self, link: Link, hello: Hello) -> tuple[Node, int]:
        node = self._find(hello.name)
        for number, key in enumerate(node.keys if node else ()):
            secret = bytes.fromhex(key.reveal())
            assert len(secret) == KEY_SIZE
            if hmac.compare_digest(key_hint(secret), hello.hint):
                if hello.segment < SEGMENT:
                    raise LinkBroken(f"it takes segments of {hello.segment} bytes, {SEGMENT} is"
                                     " the least")
                assert node is not None
                return node, number
        await link.say_and_close(Kind.ERR, refusal(Refused.AUTH, "the hub has no such node or key"))
        raise LinkBroken("another key than this hub has for it" if node else
                         "no node of this name was added")
