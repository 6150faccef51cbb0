"""gRPC as a client speaks it, with a bound on each wait (grpc, doc/PROTOCOL-HTTP2.md).

h2 knows HTTP/2; what the messages mean is for others to say. HTTP/2 would carry many calls on one
connection; here it is one at a time, as `Connections` says why.
"""

import asyncio
import contextlib
import logging
import ssl
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from fleet.http.carrier import Carrier, SocketOptions
from fleet.http.connections import Connections, NotConnected, WireError, broken

# At DEBUG it tells each header as it goes, and with them the tokens by which servers know us.
logging.getLogger("hpack").setLevel(logging.WARNING)

# What the server may send before we have confirmed anything: all that HTTP/2 allows (RFC 9113,
# section 6.9.1), since what is not read here yet waits in the system's buffers.
_WINDOW_BYTES = 2**31 - 1
_DEFAULT_WINDOW_BYTES = 2**16 - 1
# A flag whether the message is compressed, and its length.
_PREFIX_BYTES = 5
_OK = "0"
# RFC 9113, sections 4.1 and 6.8: length, type, flags and stream come before a frame's contents,
# and those of GOAWAY begin with the last stream that is still answered, in 31 bits.
_HEAD_BYTES = 9
_GOAWAY = 7
_STREAM_BITS = 2**31 - 1
# What frames are at most, unless one allows for more.
_FRAME_BYTES = 2**14


class Foreign(WireError):
    """What answered does not speak gRPC."""


class Refused(Exception):
    """The server answered with an error: its code (grpc, doc/statuscodes.md) and its words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{code}: {words}")
        self.code = code
        self.words = words


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A method by its path, and the message that it is called with.

    `is_open` leaves the server expecting more, until the connection is closed. `silence_s` is how
    long it may say nothing before it counts as gone, None for ever.
    """

    path: str
    message: bytes
    metadata: Sequence[tuple[str, str]] = ()
    is_open: bool = False
    silence_s: float | None


class GrpcWire:
    """The server of one URL; for `tls` and the others see `Connections`."""

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        connect_s: float,
        options: SocketOptions = (),
    ) -> None:
        self._connections = Connections(url, _Talk, tls=tls, connect_s=connect_s, options=options)

    @contextlib.asynccontextmanager
    async def exchange(self, call: Call) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Make the call; within this its messages can be read. Raises WireError and Refused."""
        async with self._connections.one() as connection:
            with _translated():
                await connection.ask(call, self._head_of(call))
            yield _messages(connection, call)

    async def aclose(self) -> None:
        """Let go of what is kept for further calls."""
        await self._connections.aclose()

    def _head_of(self, call: Call) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", self._connections.url.scheme),
            (":path", call.path),
            (":authority", self._connections.authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *call.metadata,
        ]


async def _messages(connection: "_Talk", call: Call) -> AsyncIterator[bytes]:
    while True:
        with _translated():
            message = await connection.next_message(call.silence_s)
        if message is None:
            return
        yield message


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Within this, what goes wrong on a connection is a WireError."""
    try:
        yield
    except h2.exceptions.H2Error as error:
        raise Foreign(str(error) or type(error).__name__) from error
    except OSError as error:
        raise broken(error) from error


class _Talk:
    """One connection: a call and its answer at a time."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self._http = h2.connection.H2Connection()
        self._http.local_settings = h2.settings.Settings(
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW_BYTES,
            }
        )
        self._http.initiate_connection()
        self._http.increment_flow_control_window(_WINDOW_BYTES - _DEFAULT_WINDOW_BYTES)
        self._stream = 0
        self._told = bytearray()
        self._ending: dict[str, str] = {}
        self._heard = bytearray()
        self._has_said_all = True
        self._is_leaving = False
        self.is_answered = True

    @property
    def is_free(self) -> bool:
        """Whether the last call is over for both sides, and the server takes another."""
        return self.is_answered and self._has_said_all and not self._is_leaving

    def overhear(self, data: bytes) -> bool:
        """HTTP/2 asks for signs of life, tells of room for more, and says when it will end."""
        if not data:
            return False
        try:
            self._take(data)
        except (WireError, h2.exceptions.H2Error):
            return False
        return self.is_free

    async def ask(self, call: Call, head: Sequence[tuple[str, str]]) -> None:
        """Send the call, or as much of it as the server wants before it answers."""
        self._stream = self._http.get_next_available_stream_id()
        self._told.clear()
        self._ending = {}
        self.is_answered = self._has_said_all = False
        self._http.send_headers(self._stream, head)
        rest = memoryview(len(call.message).to_bytes(_PREFIX_BYTES) + call.message)
        while rest and not self.is_answered:
            room = self._http.local_flow_control_window(self._stream)
            if not room:
                await self._hear(call.silence_s)
                continue
            part = rest[: min(room, self._http.max_outbound_frame_size)]
            rest = rest[len(part) :]
            self._has_said_all = not (rest or call.is_open)
            self._http.send_data(self._stream, bytes(part), end_stream=self._has_said_all)
            await self._flush(call.silence_s)

    async def next_message(self, silence_s: float | None) -> bytes | None:
        """The next message, None at their end; raises Refused if that is an error."""
        while (message := self._whole_message()) is None:
            if self.is_answered:
                self._check_ending()
                return None
            await self._hear(silence_s)
        return message

    def _whole_message(self) -> bytes | None:
        if len(self._told) < _PREFIX_BYTES:
            return None
        end = _PREFIX_BYTES + int.from_bytes(self._told[1:_PREFIX_BYTES])
        if len(self._told) < end:
            return None
        if self._told[0]:
            raise Foreign("it is compressed, which nobody asked for")
        message = bytes(self._told[_PREFIX_BYTES:end])
        del self._told[:end]
        return message

    def _check_ending(self) -> None:
        status = self._ending.get("grpc-status", "")
        if not status.isdecimal():
            http = self._ending.get(":status", "none")
            raise Foreign(f"it answered without a status of gRPC, and HTTP status {http}")
        if status != _OK:
            words = urllib.parse.unquote(self._ending.get("grpc-message", ""))
            raise Refused(int(status), words)
        if self._told:
            raise Foreign("it ended within a message")

    async def _hear(self, silence_s: float | None) -> None:
        """Take in what the server says next, once it has our answers to what is HTTP/2's own."""
        await self._flush(silence_s)
        async with asyncio.timeout(silence_s):
            data = await self.carrier.receive()
        if not data:
            raise ConnectionResetError("it was closed without an answer")
        self._take(data)

    async def _flush(self, silence_s: float | None) -> None:
        """Send what there is to send; if nobody takes it, why may still be there to be read."""
        if not (data := self._http.data_to_send()):
            return
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(silence_s):
                await self.carrier.send(data)

    def _take(self, data: bytes) -> None:
        self._heard += data
        while frame := self._whole_frame():
            if frame[3] == _GOAWAY:
                self._take_leave(frame)
                continue
            for event in self._http.receive_data(frame):
                if getattr(event, "stream_id", None) == self._stream:
                    self._take_event(event)

    def _whole_frame(self) -> bytes:
        """The next frame, nothing if it has not come yet."""
        length = int.from_bytes(self._heard[:3])
        if length > _FRAME_BYTES:
            raise Foreign("it does not speak HTTP/2, or in frames that nobody asked for")
        end = _HEAD_BYTES + length
        if len(self._heard) < end:
            return b""
        frame = bytes(self._heard[:end])
        del self._heard[:end]
        return frame

    def _take_leave(self, frame: bytes) -> None:
        """The server goes, and may still answer. h2 is not told: it would hear nothing after."""
        self._is_leaving = True
        last = int.from_bytes(frame[_HEAD_BYTES : _HEAD_BYTES + 4]) & _STREAM_BITS
        if last < self._stream:
            self._give_up(was_taken=False)

    def _take_event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived():
                self._told += event.data
                length = event.flow_controlled_length
                self._http.acknowledge_received_data(length, self._stream)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                for name, value in event.headers:
                    self._ending[_text(name)] = _text(value)
            case h2.events.StreamEnded():
                self.is_answered = True
            case h2.events.StreamReset():
                is_refusal = event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM
                self._give_up(was_taken=not is_refusal)

    def _give_up(self, *, was_taken: bool) -> None:
        """Raise that there will be no answer, unless it is there.

        That is NotConnected if the server says that it did not even look at the call.
        """
        if self.is_answered:
            return
        error = ConnectionResetError("it takes no more calls")
        if not was_taken:
            raise NotConnected(str(error)) from error
        raise error


def _text(told: str | bytes) -> str:
    return told if isinstance(told, str) else told.decode(errors="replace")
