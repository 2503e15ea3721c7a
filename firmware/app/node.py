"""The node: dials its hub, proves who it is, and does what the hub asks of its flash."""

import gc
import os
import struct

from app import wire
from app.link import LinkBroken
from app.store import ENOENT, ENOSPC, HEADER_SIZE, ID_SIZE, SIZE_MAX, ChunkCorrupt, WrongDigest
from app.update import SIZE_MAX as BUNDLE_MAX
from app.update import BadBundle, is_signed

LITTLEFS_CORRUPT = 84
FLASH_ANSWERS = {
    ENOENT: (wire.NOENT, "no such chunk"),
    ENOSPC: (wire.NOSPACE, "the flash has no room for it"),
    LITTLEFS_CORRUPT: (wire.CORRUPT, "the flash does not read there"),
}
ALGORITHMS = ("sha256", "md5")


class Refused(Exception):
    """The hub does not want this node; args[0] says why."""


class NotOurs(Exception):
    """There is no chunk store: the flash holds something else."""


class Node:
    """Serves one hub after another, for ever. board: settings, store, sockets, watchdog."""

    def __init__(self, board, link):
        self.board = board
        self.link = link
        self.link.pace = board.feed
        self.link.frame_ms = board.settings.frame_ms
        self.writer = None
        self.failed = None
        self.rekeyed = False
        self.heap_lowest = gc.mem_free()
        self.requests = {
            wire.PUT: (self.put, 52, 52),
            wire.DATA: (self.write, 5, 4 + wire.SEGMENT),
            wire.GET: (self.get, 24, 24),
            wire.DEL: (self.delete, 16, 16),
            wire.LIST: (self.list, 0, 16),
            wire.STAT: (self.stat, 0, 0),
            wire.VERIFY: (self.verify, 17, 49),
            wire.WIPE: (self.wipe, 4, 6),
            wire.REKEY: (self.rekey, 32, 32),
            wire.UPDATE: (self.update, 68, 68),
            wire.RESTART: (self.restart, 0, 0),
            wire.PING: (self.pong, 0, 0),
            wire.PONG: (self.ignore, 0, 0),
        }

    def run(self):
        """Dial, serve, and dial again: soon after a link that worked, later and later otherwise."""
        delay = self.board.settings.retry_ms
        while True:
            try:
                self.board.join()
                self.connect()
                delay = self.board.settings.retry_ms
                self.serve()
            except Refused as error:
                print("node: the hub refuses this node:", error)
                delay = self.board.settings.refused_ms
            except (LinkBroken, OSError, ValueError) as error:
                print("node: link:", error)
            self.link.close()
            self.suspend()
            # Nodes that lost their hub together do not come back together.
            self.board.rest(delay + delay * os.urandom(1)[0] // 512)
            delay = min(2 * delay, self.board.settings.retry_max_ms)

    def suspend(self):
        """What was on its way in stays for the next connection."""
        if self.writer:
            writer, self.writer = self.writer, None
            try:
                writer.suspend()
            except OSError as error:
                print("node: flash:", error)

    def connect(self):
        """Dial and shake hands; both sides prove that they have the key, the hub first."""
        settings, link = self.board.settings, self.link
        link.attach(self.board.dial(settings.hub, settings.port))
        nonce = os.urandom(wire.NONCE_SIZE)
        hello = wire.hello(
            settings.name, nonce, wire.key_hint(settings.key), settings.boots, self.board.firmware
        )
        link.reply(wire.HELLO, 0, hello)
        self.expect(wire.CHAL)
        _, self.heartbeat, policy, proof = wire.challenge(link.payload)
        session = wire.Session(settings.key, hello, link.payload)
        if not wire.same(session.hub_proof, proof):
            raise LinkBroken("this hub has not the key of this node")
        link.reply(wire.AUTH, 0, session.node_proof)
        link.sealed = session
        self.expect(wire.READY)
        self.rekeyed = False
        self.failed = None
        if policy & wire.POLICY_WIPE and self.board.store:
            self.board.store.wipe()
        self.stat(0)
        self.board.welcomed()

    def expect(self, wanted):
        """The next frame has to be this one; in place of it the hub may say no."""
        kind, _ = self.link.receive()
        if kind == wire.ERR and len(self.link.payload):
            code = self.link.payload[0]
            text = bytes(self.link.payload[1:]).decode()
            if code in (wire.VERSION_UNKNOWN, wire.NOT_ALLOWED):
                raise Refused("%s (code %d)" % (text, code))
            raise LinkBroken("the hub says: %s (code %d)" % (text, code))
        if kind != wanted:
            raise LinkBroken("frame %d where %d was expected" % (kind, wanted))

    def serve(self):
        """Answer until the link ends; PING when it was quiet for a heartbeat, three are the end."""
        silent = 0
        while True:
            if self.link.quiet(self.heartbeat * 1000):
                silent += 1
                if silent == 3:
                    raise LinkBroken("the hub is silent")
                self.board.settle(self.writer)
                self.link.reply(wire.PING, 0)
                continue
            silent = 0
            kind, request = self.link.receive()
            self.handle(kind, request)

    def handle(self, kind, request):
        """One frame of the hub. Trouble with a chunk is answered, what is no frame ends it."""
        if kind not in self.requests:
            raise LinkBroken("frame of type %d" % kind)
        method, shortest, longest = self.requests[kind]
        if not shortest <= len(self.link.payload) <= longest:
            raise LinkBroken("frame of type %d with %d bytes" % (kind, len(self.link.payload)))
        try:
            method(request)
        except WrongDigest:
            self.fail(request, wire.HASH, "other bytes came than were announced")
        except ChunkCorrupt as error:
            self.fail(request, wire.CORRUPT, str(error))
        except BadBundle as error:
            self.fail(request, wire.BAD, "bundle: %s" % error)
        except NotOurs:
            self.fail(request, wire.IO, "flash is neither blank nor ours: needs FORMAT")
        except OSError as error:
            if error.errno == ENOSPC and self.board.store:
                self.board.store.recount()
            unknown = wire.IO, "the flash fails with error %s" % error
            self.fail(request, *FLASH_ANSWERS.get(error.errno, unknown))

    def fail(self, request, code, text):
        """Say why it was not done; what comes behind it for the same request is ignored."""
        self.failed = request
        if self.writer and self.writer_request == request:
            writer, self.writer = self.writer, None
            try:
                writer.abandon()
            except OSError as error:
                print("node: flash:", error)
        self.error(request, code, text)

    def error(self, request, code, text):
        """Answer ERR."""
        self.link.reply(wire.ERR, request, bytes((code,)) + text.encode()[: wire.ERROR_TEXT_MAX])

    def store(self):
        """The chunks; NotOurs if the flash was not touched because something else is on it."""
        if not self.board.store:
            raise NotOurs
        return self.board.store

    def idle(self, request):
        """Whether nothing else is being received; BUSY is answered if so."""
        if self.writer:
            self.error(request, wire.BUSY, "another chunk is on its way in")
        return not self.writer

    def put(self, request):
        """PUT: room is made sure of, then GO with the place from which to send."""
        chunk, size, sha256 = struct.unpack(">16sI32s", self.link.payload)
        store = self.store()
        if not self.idle(request):
            return
        if not 0 < size <= SIZE_MAX:
            self.error(request, wire.BAD, "a chunk has 1 to %d bytes" % SIZE_MAX)
            return
        known = store.holds(chunk, size, sha256)
        if known is None:
            self.error(request, wire.BAD, "this id has other content")
        elif known:
            self.link.reply(wire.DONE, request, sha256)
        elif not store.has_room(size):
            self.error(request, wire.NOSPACE, "%d blocks are free" % store.room())
        else:
            self.writer_request = request
            self.writer = store.begin(chunk, size, sha256)
            self.writing = chunk
            self.link.reply(wire.GO, request, struct.pack(">I", self.writer.position))

    def write(self, request):
        """DATA: written, then ACK; the last one makes it a chunk, then DONE."""
        writer = self.writer
        if not writer or request != self.writer_request:
            if request == self.failed:
                return
            raise LinkBroken("bytes of no chunk")
        content = self.link.payload[4:]
        (offset,) = struct.unpack_from(">I", self.link.payload)
        if offset != writer.position or offset + len(content) > writer.size:
            raise LinkBroken("bytes out of order")
        writer.write(content)
        self.board.feed()
        if writer.position < writer.size:
            self.link.reply(wire.ACK, request, struct.pack(">I", writer.position))
        else:
            digest = writer.finish()
            self.writer = None
            self.link.reply(wire.DONE, request, digest)

    def get(self, request):
        """GET: META, DATA.., END."""
        chunk, offset, length = struct.unpack(">16sII", self.link.payload)
        if not self.idle(request):
            return
        file, size, sha256 = self.store().open(chunk)
        try:
            if offset > size:
                self.error(request, wire.BAD, "the chunk has %d bytes" % size)
                return
            end = min(size, offset + length) if length else size
            if offset:
                file.seek(HEADER_SIZE + offset)
            self.link.reply(wire.META, request, struct.pack(">I", size) + sha256)
            while offset < end:
                count = file.readinto(self.link.room[4 : 4 + min(end - offset, wire.SEGMENT)])
                if not count:
                    raise ChunkCorrupt("short")
                struct.pack_into(">I", self.link.room, 0, offset)
                self.link.send(wire.DATA, request, 4 + count)
                offset += count
                self.board.feed()
        finally:
            file.close()
        self.link.reply(wire.END, request)

    def delete(self, request):
        """DEL; of the chunk that is on its way in: it is given up."""
        chunk = bytes(self.link.payload)
        found = self.store().delete(chunk)
        if self.writer and chunk == self.writing:
            self.failed = self.writer_request
            writer, self.writer = self.writer, None
            writer.abandon()
            found = True
        if found:
            self.link.reply(wire.OK, request)
        else:
            self.error(request, wire.NOENT, "no such chunk")

    def list(self, request):
        """LIST: a page of ids and sizes."""
        after = bytes(self.link.payload)
        if len(after) not in (0, ID_SIZE):
            raise LinkBroken("LIST after %d bytes" % len(after))
        end = 0
        for chunk, size in self.store().items(after, wire.LISTED_MAX):
            self.link.room[end : end + ID_SIZE] = chunk
            struct.pack_into(">I", self.link.room, end + ID_SIZE, size)
            end += ID_SIZE + 4
        self.link.send(wire.ITEMS, request, end)

    def verify(self, request):
        """VERIFY: the digest of nonce and content, read now."""
        chunk, algorithm = bytes(self.link.payload[:ID_SIZE]), self.link.payload[ID_SIZE]
        if algorithm >= len(ALGORITHMS):
            self.error(request, wire.BAD, "no such algorithm")
            return
        nonce = bytes(self.link.payload[ID_SIZE + 1 :])
        digest = self.store().digest(chunk, ALGORITHMS[algorithm], nonce)[2]
        self.link.reply(wire.END, request, digest)

    def stat(self, request):
        """STATR: what there is of flash and heap, without a walk over the file system."""
        gc.collect()
        free = gc.mem_free()
        self.heap_lowest = min(self.heap_lowest, free)
        store, board = self.board.store, self.board
        flags = wire.ON_TRIAL if board.on_trial else 0
        if store:
            flags |= wire.FREE_IS_ESTIMATE if store.estimated else 0
            flash = (store.block, store.blocks, store.room(), store.chunks)
        else:
            flags |= wire.NEEDS_FORMAT
            flash = (4096, 0, 0, 0)
        struct.pack_into(
            ">IIIIIIIIIB",
            self.link.room,
            0,
            *flash,
            free,
            self.heap_lowest,
            board.uptime(),
            board.settings.boots,
            store.writes if store else 0,
            flags
        )
        self.link.send(wire.STATR, request, 37)

    def wipe(self, request):
        """WIPE: all chunks go, or the file system is made anew."""
        order = bytes(self.link.payload)
        if order not in (b"WIPE", b"FORMAT"):
            self.error(request, wire.BAD, "WIPE or FORMAT")
            return
        if self.writer:
            self.failed = self.writer_request
            self.suspend()
        if order == b"FORMAT":
            self.board.format()
        else:
            self.store().wipe()
        self.link.reply(wire.OK, request)

    def rekey(self, request):
        """REKEY: a new key, for the next connection."""
        if self.rekeyed:
            self.error(request, wire.BAD, "once per connection")
            return
        self.board.settings.change_key(wire.masked(self.link.sealed.mask, self.link.payload))
        self.rekeyed = True
        self.link.reply(wire.OK, request)

    def update(self, request):
        """UPDATE: another application, to be tried at the next start."""
        size, sha256, signature = struct.unpack(">I32s32s", self.link.payload)
        if not self.idle(request):
            return
        if not is_signed(self.board.settings.update_key, sha256, signature):
            self.error(request, wire.NOT_ALLOWED, "wrong signature")
        elif not 0 < size <= BUNDLE_MAX:
            self.error(request, wire.BAD, "a bundle has 1 to %d bytes" % BUNDLE_MAX)
        else:
            self.writer_request = request
            self.writing = None
            self.writer = self.board.updater(size, sha256)
            self.link.reply(wire.GO, request, struct.pack(">I", 0))

    def restart(self, request):
        """RESTART: OK, then the chip begins anew."""
        self.link.reply(wire.OK, request)
        self.link.close()
        self.suspend()
        self.board.reset()

    def pong(self, request):
        """PING of the hub."""
        self.link.reply(wire.PONG, request)

    def ignore(self, request):
        """PONG: what it says is that something came."""
