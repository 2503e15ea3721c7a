"""What the gateway asks of the node hub, on its control socket."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web

from zerostor.control_socket import Answer, Face, limit_of
from zerostor.core.control_protocol import BODY_MAX, decode
from zerostor.core.errors import BadRequest
from zerostor.core.node_protocol import (
    VERIFIED_AT_ONCE,
    AddNode,
    NamedNode,
    RotateNode,
    VerifyNode,
    WipeNode,
    event_answer,
    node_answer,
    stat_answer,
)
from zerostor.core.node_wire import CHUNK_ID_SIZE, app_signature, is_node_name
from zerostor.core.nodes import Node, NodeEvent, NodeEventKind, NodeState
from zerostor.core.setting_types import Secret
from zerostor.engine.node_census import Census
from zerostor.engine.node_roll import NodeRoll, NodeUpkeep
from zerostor.engine.node_verify import Verifier
from zerostor.node_ports import Fleet, NodeBook

Application = Callable[[], bytes]
FACE = Face("the node hub", "the disk of the node hub")


@dataclass(frozen=True)
class HubFacts:
    """What a device needs to know of the hub, and what happened: events since the start.

    address: HOST:PORT as set in nodes.listen. years: until a flash of so many blocks is worn.
    """

    address: str
    heartbeat: float
    events: Mapping[NodeEventKind, int]
    years: Callable[[str, int], float | None]


class HubControl:
    """Answers questions about nodes."""

    def __init__(self, roll: NodeRoll, upkeep: NodeUpkeep, book: NodeBook, fleet: Fleet,
                 census: Census, verifier: Verifier, application: Application,
                 facts: HubFacts) -> None:
        """application: makes the firmware for nodes; it blocks."""
        self._roll = roll
        self._upkeep = upkeep
        self._book = book
        self._fleet = fleet
        self._census = census
        self._verifier = verifier
        self._application = application
        self._facts = facts

    def routes(self) -> Iterable[web.RouteDef]:
        """All that can be asked."""
        return [
            web.get("/nodes", FACE.answered(self._list)),
            web.get("/events", FACE.answered(self._events)),
            web.post("/add", FACE.answered(self._add)),
            web.post("/remove", FACE.answered(self._remove)),
            web.post("/rotate", FACE.answered(self._rotate)),
            web.post("/wipe", FACE.answered(self._wipe)),
            web.post("/verify", FACE.answered(self._verify)),
            web.post("/update", FACE.answered(self._update)),
            web.get("/figures", FACE.answered(self._figures)),
            web.get("/alive", FACE.answered(self._alive)),
        ]

    async def _list(self, _: web.Request) -> Answer:
        connected, last = self._fleet.connected(), await self._book.last_events()
        return {"hub": self._hub(), "nodes": [
            self._answer(node, connected.get(node.name), last.get(node.name))
            for node in self._roll.all()]}

    async def _events(self, request: web.Request) -> Answer:
        name = request.query.get("node", "")
        if name and not is_node_name(name):
            raise BadRequest("node is the name of a node")
        events = await self._book.events(name, limit_of(request))
        return {"events": [event_answer(event) for event in events]}

    async def _add(self, request: web.Request) -> Answer:
        asked = decode(AddNode, await request.read())
        node = await self._roll.add(asked.name, asked.owner, asked.site, wipe=asked.wipe)
        return self._answer(node, None, None) | self._settings(node, node.keys[0])

    def _settings(self, node: Node, key: Secret) -> Answer:
        # Keys leave the hub for this alone: they have to get into the device.
        return {"hub": self._hub(), "key": key.reveal(), "update_key": node.update_key.reveal()}

    async def _remove(self, request: web.Request) -> Answer:
        asked = decode(NamedNode, await request.read())
        node = self._roll.require(asked.name)
        await self._roll.remove(node.name)
        self._fleet.drop(node.name, "it was removed")
        return {"name": node.name}

    async def _rotate(self, request: web.Request) -> Answer:
        asked = decode(RotateNode, await request.read())
        node = await self._roll.rotate(asked.name)
        if asked.by_hand:
            return {"name": node.name, "handed_over": False} | self._settings(node, node.keys[-1])
        handed_over = await self._upkeep.hand_over_key(node.name)
        return {"name": node.name, "handed_over": handed_over}

    async def _wipe(self, request: web.Request) -> Answer:
        asked = decode(WipeNode, await request.read())
        node = self._roll.require(asked.name)
        await self._fleet.wipe(node.name, format_flash=asked.format)
        return self._answer(node, self._fleet.connected().get(node.name), None)

    async def _verify(self, request: web.Request) -> Answer:
        asked = decode(VerifyNode, await request.read())
        node = self._roll.require(asked.name)
        try:
            after = bytes.fromhex(asked.after)
        except ValueError:
            raise BadRequest("after is the id of a chunk, as hex") from None
        if len(after) not in (0, CHUNK_ID_SIZE):
            raise BadRequest(f"after is the id of a chunk: {2 * CHUNK_ID_SIZE} hex digits")
        found = await self._verifier.verify(node.name, after, VERIFIED_AT_ONCE)
        return {"name": node.name, "good": found.good,
                "bad": [{"chunk": chunk.hex(), "reason": reason} for chunk, reason in found.bad],
                "after": found.last.hex() if found.last else None}

    async def _update(self, request: web.Request) -> Answer:
        asked = decode(NamedNode, await request.read())
        node = self._roll.require(asked.name)
        app = await asyncio.to_thread(self._application)
        signature = app_signature(bytes.fromhex(node.update_key.reveal()),
                                  hashlib.sha256(app).digest())
        await self._fleet.update(node.name, app, signature)
        return {"name": node.name}

    async def _alive(self, _: web.Request) -> Answer:
        return {"nodes": len(self._roll.all()), "connected": len(self._fleet.connected())}

    async def _figures(self, _: web.Request) -> Answer:
        connected = self._fleet.connected()
        nodes = {node.name: connected.get(node.name) for node in self._roll.all()}
        return {"events": {str(kind): count for kind, count in self._facts.events.items()},
                "nodes": {name: None if state is None else stat_answer(state.stat)
                          for name, state in nodes.items()}}

    def _answer(self, node: Node, state: NodeState | None, last: NodeEvent | None) -> Answer:
        years = self._facts.years(node.name, state.stat.blocks) if state is not None else None
        unknown = self._census.unknown.get(node.name)
        return node_answer(node, state, last, years) | {"unknown": unknown}

    def _hub(self) -> Answer:
        return {"address": self._facts.address, "heartbeat": self._facts.heartbeat}


def application(*routes: Iterable[web.RouteDef]) -> web.Application:
    """What the control socket answers: the routes of all who have some."""
    app = web.Application(client_max_size=BODY_MAX)
    for some in routes:
        app.add_routes(some)
    return app
