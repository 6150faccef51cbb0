"""The documents of the API on the repository that a cluster follows."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.api.members import Document, array, mapping, present, target_of, text_of
from fleet.errors import MALFORMED, FleetError, InvalidRequest
from fleet.names import UnitName
from fleet.sync.values import (
    Drift,
    SyncSettings,
    SyncStatus,
    decode_settings,
    decode_status,
    encode_settings,
    encode_status,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What is followed (None: nothing), how far it came, and what is not as it has it."""

    settings: SyncSettings | None = None
    status: SyncStatus | None = None
    drift: tuple[Drift, ...] = ()


def encode_sync(report: SyncReport) -> Document:
    return {
        "settings": report.settings and encode_settings(report.settings),
        "status": report.status and encode_status(report.status),
        "drift": [_drift_document(one) for one in report.drift],
    }


def decode_sync(document: object) -> SyncReport:
    """The report in a document; raises InvalidRequest if it cannot be read."""
    found = mapping(document, "a report on sync")
    try:
        return SyncReport(
            settings=decode_settings(found["settings"]) if found.get("settings") else None,
            status=decode_status(found["status"]) if found.get("status") else None,
            drift=tuple(_drift(one) for one in array(found, "drift")),
        )
    except FleetError:
        raise
    except MALFORMED as error:
        raise InvalidRequest(f"unable to decode body: {error!r}") from error


def decode_sync_settings(document: object) -> SyncSettings:
    """The settings that a user sends, checked; raises InvalidRequest."""
    found = mapping(document, "settings of sync")
    unknown: Sequence[str] = sorted(found.keys() - encode_settings(SyncSettings(url="")).keys())
    if unknown:
        raise InvalidRequest(f"unable to decode body: unknown member {unknown[0]!r}")
    try:
        return decode_settings(found)
    except FleetError:
        raise
    except MALFORMED as error:
        raise InvalidRequest(f"unable to decode body: {error!r}") from error


def _drift_document(drift: Drift) -> Document:
    document: Document = {"unit": drift.unit, "what": drift.what}
    if drift.text is None:
        return document
    return document | {"text": drift.text} | present(desiredState=drift.target)


def _drift(document: object) -> Drift:
    found = mapping(document, "a drift")
    return Drift(
        unit=UnitName(text_of(found, "unit")),
        what=text_of(found, "what"),
        text=text_of(found, "text") if "text" in found else None,
        target=target_of(found, "desiredState"),
    )
