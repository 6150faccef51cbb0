"""How long a client asks a server again that has lost its store: while etcd elects a leader."""

import asyncio

# An etcd that elects a leader is back within 1 to 3 s.
PATIENCE_S = 5.0
_PAUSE_S = 0.25


class Patience:
    """The patience with one request, from now on; `at_most_s` may be less than is usual."""

    def __init__(self, at_most_s: float) -> None:
        self._time = asyncio.get_running_loop().time
        self._until_s = self._time() + min(at_most_s, PATIENCE_S)

    async def asks_again(self, status: int) -> bool:
        """Whether to ask again after an answer of this status; if so, a moment has passed."""
        if status != 503 or self._time() + _PAUSE_S > self._until_s:
            return False
        await asyncio.sleep(_PAUSE_S)
        return True
