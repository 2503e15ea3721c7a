"""One connection to the hub: whole frames in and out, in two buffers that are made once."""

import select
import struct
import time

from app import wire

FRAME_MS = 10000


class LinkBroken(Exception):
    """The connection is of no use any more; args[0] says why."""


class Connection:
    """A connected MicroPython socket that never blocks; what fails is LinkBroken."""

    def __init__(self, socket):
        socket.setblocking(False)
        self.socket = socket
        self.poll = select.poll()
        self.poll.register(socket, select.POLLIN)
        self.watched = select.POLLIN

    def readinto(self, view):
        """Bytes that came, 0 at the end, None if there are none yet."""
        try:
            return self.socket.readinto(view)
        except OSError as error:
            raise LinkBroken("cannot read: %s" % error)

    def write(self, view):
        """Bytes that were taken; None if none can be."""
        try:
            return self.socket.write(view)
        except OSError as error:
            raise LinkBroken("cannot write: %s" % error)

    def ready(self, writable, limit_ms):
        """Whether it can be read from (or written to) within so long."""
        wanted = select.POLLOUT if writable else select.POLLIN
        if wanted != self.watched:
            self.poll.modify(self.socket, wanted)
            self.watched = wanted
        for _ in self.poll.poll(limit_ms):
            return True
        return False

    def close(self):
        """End it."""
        self.socket.close()


class Link:
    """Frames over a Connection: nothing here waits without a limit.

    The payload of a frame that came is in `payload`, valid until the next one. What is to be sent
    is put into `room`, a view behind the header of the frame to come. pace(): called while waiting.
    """

    def __init__(self):
        self.pace = int
        self.frame_ms = FRAME_MS
        self.incoming = memoryview(bytearray(wire.HEADER_SIZE + wire.PAYLOAD_MAX + wire.TAG_SIZE))
        self.outgoing = memoryview(bytearray(wire.HEADER_SIZE + wire.PAYLOAD_MAX + wire.TAG_SIZE))
        self.room = self.outgoing[wire.HEADER_SIZE :]
        self.connection = None
        self.sealed = None

    def attach(self, connection):
        """Begin a connection, without tags until `sealed` is set to a wire.Session."""
        self.connection = connection
        self.sealed = None

    def close(self):
        """End the connection; again is fine."""
        connection, self.connection = self.connection, None
        if connection:
            try:
                connection.close()
            except OSError:
                pass

    def receive(self):
        """(type, request) of the next frame, all of which has to come within frame_ms."""
        deadline = time.ticks_add(time.ticks_ms(), self.frame_ms)
        header = self.incoming[: wire.HEADER_SIZE]
        self.fill(header, deadline)
        kind, flags, length, request = struct.unpack(wire.HEADER, header)
        if flags or length > wire.PAYLOAD_MAX:
            raise LinkBroken("frame with flags %d, %d bytes" % (flags, length))
        end = wire.HEADER_SIZE + length
        self.payload = self.incoming[wire.HEADER_SIZE : end]
        self.fill(self.payload, deadline)
        if self.sealed:
            tag = self.incoming[end : end + wire.TAG_SIZE]
            self.fill(tag, deadline)
            if not wire.same(self.sealed.from_hub.tag(self.incoming[:end]), tag):
                raise LinkBroken("frame with a wrong tag")
        return kind, request

    def fill(self, view, deadline):
        """Read until the view is full."""
        done = 0
        while done < len(view):
            count = self.connection.readinto(view[done:])
            if count is None:
                self.wait(False, deadline)
            elif not count:
                raise LinkBroken("the hub closed")
            else:
                done += count

    def send(self, kind, request, length=0):
        """Send a frame whose payload is the first `length` bytes of `room`."""
        end = wire.HEADER_SIZE + length
        struct.pack_into(wire.HEADER, self.outgoing, 0, kind, 0, length, request)
        if self.sealed:
            tag = self.sealed.to_hub.tag(self.outgoing[:end])
            self.outgoing[end : end + wire.TAG_SIZE] = tag
            end += wire.TAG_SIZE
        deadline = time.ticks_add(time.ticks_ms(), self.frame_ms)
        done = 0
        while done < end:
            count = self.connection.write(self.outgoing[done:end])
            if count:
                done += count
            else:
                self.wait(True, deadline)

    def reply(self, kind, request, payload=b""):
        """Send a frame with these bytes."""
        self.room[: len(payload)] = payload
        self.send(kind, request, len(payload))

    def wait(self, writable, deadline):
        """Wait until the socket is ready; LinkBroken when the deadline has passed."""
        while True:
            left = time.ticks_diff(deadline, time.ticks_ms())
            if left <= 0:
                raise LinkBroken("the hub is too slow")
            if self.connection.ready(writable, min(left, 1000)):
                return
            self.pace()

    def quiet(self, limit_ms):
        """Whether nothing came for so long."""
        deadline = time.ticks_add(time.ticks_ms(), limit_ms)
        while True:
            self.pace()
            left = time.ticks_diff(deadline, time.ticks_ms())
            if self.connection.ready(False, max(0, min(left, 1000))):
                return False
            if left <= 0:
                return True
