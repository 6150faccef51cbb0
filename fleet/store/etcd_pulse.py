"""When each server of an etcd cluster last showed that it is alive and reaches its peers.

A watch that is silent says nothing of its server, so somebody has to ask; but where any other
request was answered a moment ago that is known already. All connections of a process share this,
whichever thread they belong to: the heartbeat's renewals spare an idle machine all its probes.
"""

import math


class Pulse:
    """The moments, by the monotonic clock that all of asyncio's loops have."""

    def __init__(self) -> None:
        self._at_s: dict[str, float] = {}

    def beat(self, server: str, at_s: float) -> None:
        """A request that was sent then was answered, with the server's peers behind it."""
        self._at_s[server] = max(at_s, self._at_s.get(server, -math.inf))

    def age_s(self, server: str, now_s: float) -> float:
        """How old the server's last sign of life is; infinite if it never gave one."""
        return now_s - self._at_s.get(server, -math.inf)
