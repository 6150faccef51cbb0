"""A bad cable: frames between a node and the bridge get lost, come late, or are held back.

Theory of operation. The node's end at the bridge is taken off it, and a second virtual cable goes
from the bridge to nowhere. A thread of the test process, which has entered the namespace of the
bridge, carries each frame from one to the other with packet sockets. So no module of the kernel is
needed (netem is not everywhere), and what passes can be read: a frame with certain bytes in it can
be the one at which the cable begins to hold back. Frames come with a virtio header
(PACKET_VNET_HDR), so that what the kernel has left to the hardware, checksums and the cutting of
long segments, stays as it is. See packet(7), and linux/if_packet.h for the numbers.
"""

import asyncio
import ctypes
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cli.sandbox import host
from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import BRIDGE, Place

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_OUTGOING = 263, 15, 4
_CLONE_NEWNET = 0x40000000
_LARGEST = 1 << 17

Frame = bytes
# Where the ports of TCP are: after the headers of virtio, Ethernet, and IPv4 without options.
_PORTS = 10 + 14 + 20


def sender_port(frame: Frame) -> bytes:
    return frame[_PORTS : _PORTS + 2]


def receiver_port(frame: Frame) -> bytes:
    return frame[_PORTS + 2 : _PORTS + 4]


def segment(frame: Frame) -> bytes:
    """What TCP carries in it; the length of its own header stands in that (RFC 9293, 3.1)."""
    return frame[_PORTS + 4 * (frame[_PORTS + 12] >> 4) :]


@dataclass(slots=True)
class Way:
    """One direction of a cable, and how bad it is; may be changed at any time.

    Once a frame `holds` says so, it and all after it are kept, until `release`.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    holds: Callable[[Frame], bool] = lambda _: False
    seen: list[Frame] = field(default_factory=list)
    records: bool = False
    is_holding: threading.Event = field(default_factory=threading.Event)
    _held: list[Frame] = field(default_factory=list)
    _rng: random.Random = field(default_factory=lambda: random.Random(1))

    def take(self, frame: Frame) -> Frame | None:
        """The frame, if it goes on."""
        if self.records:
            self.seen.append(frame)
        if self.is_holding.is_set() or self.holds(frame):
            self._held.append(frame)
            self.is_holding.set()
            return None
        return None if self._rng.random() < self.loss else frame

    def held(self) -> list[Frame]:
        """What is held now, in its order."""
        return list(self._held)

    def let_go(self) -> list[Frame]:
        """The frames that were held, and an end of it."""
        self.holds = lambda _: False
        held, self._held = self._held, []
        self.is_holding.clear()
        return held


class Cable:
    """The cable of one node while `bad_cable` is open; `out` is what the node sends."""

    def __init__(self, name: str) -> None:
        self.out, self.back = Way(), Way()
        self._near, self._far = _packets(name), _packets(f"{name}-a")
        self._loop = asyncio.get_running_loop()

    def release(self) -> None:
        """Send on all that is held, in its order; from any thread."""
        self._loop.call_soon_threadsafe(self._release)

    def start(self) -> None:
        self._loop.add_reader(self._near, self._carry, self._near, self._far, self.out)
        self._loop.add_reader(self._far, self._carry, self._far, self._near, self.back)

    def close(self) -> None:
        self._near.close()
        self._far.close()

    def _release(self) -> None:
        for way, end in ((self.out, self._far), (self.back, self._near)):
            for frame in way.let_go():
                _send(end, frame)

    def _carry(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        try:
            frame, sender = source.recvfrom(_LARGEST)
        except (BlockingIOError, OSError):
            return  # it was pulled
        if sender[2] == _PACKET_OUTGOING or (kept := way.take(frame)) is None:
            return
        if way.delay_s:
            self._loop.call_later(way.delay_s, _send, sink, kept)
        else:
            _send(sink, kept)


@contextmanager
def bad_cable(sandbox: Sandbox, node: str) -> Iterator[Cable]:
    """Put a cable that can be bad, and is not yet, between the node and the bridge."""
    place = Place(name=sandbox.name)
    other = f"{node}-a"
    insert = [
        f"link add {other} type veth peer name {node}-b",
        f"link set {node}-b master {BRIDGE}",
        f"link set {node}-b up",
        f"link set {other} up",
        f"link set {node} nomaster",
    ]
    host.ip(place.hub, "\n".join(insert))
    ready, over = threading.Event(), threading.Event()
    made: list[Cable] = []
    thread = threading.Thread(target=_carry_in, args=(str(place.hub), node, made, ready, over))
    thread.start()
    try:
        assert ready.wait(10), "the cable was not laid"
        yield made[0]
    finally:
        over.set()
        thread.join()
        host.ip(place.hub, f"link delete {other}\nlink set {node} master {BRIDGE}")


def _carry_in(
    namespace: str, node: str, made: list[Cable], ready: threading.Event, over: threading.Event
) -> None:
    """Carry frames in the network namespace, which this thread enters for good."""
    with open(namespace) as file:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    async def carry() -> None:
        cable = Cable(node)
        cable.start()
        made.append(cable)
        ready.set()
        await asyncio.to_thread(over.wait)
        cable.close()

    asyncio.run(carry())


def _packets(interface: str) -> socket.socket:
    ends = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    ends.setblocking(False)
    ends.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    ends.bind((interface, _ETH_P_ALL))
    return ends


def _send(end: socket.socket, frame: Frame) -> None:
    try:
        end.send(frame)
    except OSError:
        return  # full, down or gone: a frame more that is lost
