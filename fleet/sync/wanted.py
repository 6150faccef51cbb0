"""What the commit wants that is applied: kept in the store, so that any machine can tell drift."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.errors import InvalidRequest
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.store.port import MAX_VALUE_BYTES

# Far above what can be written: compressed, it fits into one value of the store.
_MAX_BYTES = 64 * 1024 * 1024
_BESIDE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the applied commit wants, by unit: hash, digest of the text, target state."""

    source: str = ""
    units: Mapping[UnitName, tuple[str, str, str]] = field(default_factory=dict)

    @property
    def files(self) -> frozenset[str]:
        """The digests of all the texts."""
        return frozenset(digest for _, digest, _ in self.units.values())


def encode_wanted(wanted: Wanted) -> bytes:
    document = {"source": wanted.source, "units": wanted.units}
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode())


def check_size(wanted: Wanted) -> None:
    """Raise InvalidRequest if it does not fit into one write, with what is told beside it."""
    if len(encode_wanted(wanted)) > MAX_VALUE_BYTES - _BESIDE_BYTES:
        raise InvalidRequest(
            f"{len(wanted.units)} units are more than can be followed; follow parts of the folder"
        )


def decode_wanted(value: bytes) -> Wanted:
    """What was written; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    try:
        document = json.loads(zlib.decompressobj().decompress(value, _MAX_BYTES))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    units = {
        UnitName(str(name)): (str(hash_), str(file), TargetState(target).value)
        for name, (hash_, file, target) in document["units"].items()
    }
    return Wanted(source=str(document["source"]), units=units)
