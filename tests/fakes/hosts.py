"""Hosts of a test: network namespaces on one bridge, whose links can be cut one pair at a time.

A cut is silent, as a dead switch: each end keeps sending, to a hardware address that nobody has.
Nothing but the kernel's own `ip` is needed. The test itself reaches a host by sockets made inside
of one; the network of the machine is left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "02:00:00:00:00:99"
CLONE_NEWNET = 0x40000000


def require_hosts() -> None:
    """Skip, and say why, where no network namespaces can be made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need Linux and root")
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need ip (iproute2)")
    name = f"zt{os.getpid()}try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no network namespaces here: {made.stderr.decode().strip()}")


class Hosts:
    """One namespace a name, all on one network."""

    def __init__(self, names: Sequence[str]) -> None:
        self._prefix = f"zt{os.getpid()}"
        self.addresses = {name: f"10.77.0.{place}" for place, name in enumerate(names, 2)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        switch = self._netns("switch")
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for name, address in self.addresses.items():
            host = self._netns(name)
            _ip("netns", "add", host)
            _ip("-n", switch, "link", "add", f"p{name}", "type", "veth",
                "peer", "name", "eth0", "netns", host)
            _ip("-n", switch, "link", "set", f"p{name}", "master", "br0", "up")
            _ip("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", host, "link", "set", device, "up")

    def start(self, name: str, command: Sequence[str], log: Path, host: str = "") -> None:
        """Run a command on a host; it is known by `name`."""
        inside = ["ip", "netns", "exec", self._netns(host or name), *command]
        with open(log, "ab") as output:
            self.processes[name] = subprocess.Popen(
                inside, cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.processes[name].kill()
        self.processes[name].wait()

    def cut(self, one: str, other: str) -> None:
        """No packet passes between two hosts any more."""
        self._hardware(one, other, "replace", "lladdr", NOBODY, "nud", "permanent")

    def heal(self, one: str, other: str) -> None:
        """Packets pass again."""
        self._hardware(one, other, "del")

    @contextlib.contextmanager
    def apart(self, *pairs: tuple[str, str]) -> Iterator[None]:
        """Links that are cut while the block runs."""
        for pair in pairs:
            self.cut(*pair)
        try:
            yield
        finally:
            for pair in pairs:
                self.heal(*pair)

    def http(self, client: str, server: str, port: int, timeout: float
             ) -> http.client.HTTPConnection:
        """A connection from one host to another."""
        address = self.addresses[server]
        connection = http.client.HTTPConnection(address, port, timeout=timeout)
        connection.sock = self._socket(client, (address, port), timeout)
        return connection

    def close(self) -> None:
        """End all processes and take the hosts away."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in [*self.addresses, "switch"]:
            subprocess.run(["ip", "netns", "del", self._netns(name)], check=False)

    def _netns(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _hardware(self, one: str, other: str, verb: str, *address: str) -> None:
        for here, there in ((one, other), (other, one)):
            _ip("-n", self._netns(here), "neigh", verb, self.addresses[there], *address,
                "dev", "eth0")

    def _socket(self, host: str, place: tuple[str, int], timeout: float) -> socket.socket:
        """A connected socket of another namespace: where a thread is decides, when it makes one."""
        made: list[socket.socket | OSError] = []

        def connect() -> None:
            try:
                with open(f"/run/netns/{self._netns(host)}") as namespace:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(socket.create_connection(place, timeout))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)
