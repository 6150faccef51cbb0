"""The other end of gRPC, for tests: a server's side of a connection, which can also do it badly."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events

FRAME_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it came."""

    stream: int
    path: str
    metadata: Mapping[str, str]
    message: bytes


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it."""
    return len(message).to_bytes(5) + message


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.http = h2.connection.H2Connection(config)
        self.http.initiate_connection()
        self._heads: dict[int, Mapping[str, str]] = {}
        self._bodies: dict[int, bytes] = {}
        self._answered: set[int] = set()

    async def hear(self) -> Sequence[h2.events.Event]:
        """What the client does next; raises EOFError once it is gone."""
        await self.flush()
        data = await self.reader.read(65_536)
        if not data:
            raise EOFError
        return self.http.receive_data(data)

    async def asked(self) -> Asked:
        """The next call whose message is there."""
        while True:
            for event in await self.hear():
                if isinstance(event, h2.events.RequestReceived):
                    self._heads[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
                    self._bodies[event.stream_id] = b""
                elif isinstance(event, h2.events.DataReceived):
                    self._bodies[event.stream_id] += event.data
                    self.http.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
            for stream, body in self._bodies.items():
                if len(body) >= 5 and len(body) == 5 + int.from_bytes(body[1:5]):
                    del self._bodies[stream]
                    head = self._heads.pop(stream)
                    await self.flush()
                    return Asked(stream, head[":path"], head, body[5:])

    async def say(self, stream: int, data: bytes, *, status: str = "200") -> None:
        """Send these bytes as they are, with a head before the first ones."""
        if stream not in self._answered:
            self._answered.add(stream)
            self.http.send_headers(
                stream, [(":status", status), ("content-type", "application/grpc")]
            )
        for start in range(0, len(data), FRAME_BYTES):
            self.http.send_data(stream, data[start : start + FRAME_BYTES])
        await self.flush()

    async def end(self, stream: int, code: int = 0, words: str = "") -> None:
        """End the answer with a status, which is all of it if nothing was said before."""
        status = [("grpc-status", str(code)), ("grpc-message", words)]
        if stream not in self._answered:
            status = [(":status", "200"), ("content-type", "application/grpc"), *status]
        self.http.send_headers(stream, status, end_stream=True)
        await self.flush()

    async def answer(self, stream: int, message: bytes) -> None:
        await self.say(stream, framed(message))
        await self.end(stream)

    async def say_goodbye(self, *, last_stream: int) -> None:
        """Take no call after that one; h2 is not told, since it would say nothing any more."""
        await self.flush()
        length, goaway, no_error = 8, b"\x07\x00", bytes(4)
        head = length.to_bytes(3) + goaway + bytes(4)
        self.writer.write(head + last_stream.to_bytes(4) + no_error)
        await self.writer.drain()

    async def flush(self) -> None:
        self.writer.write(self.http.data_to_send())
        await self.writer.drain()
