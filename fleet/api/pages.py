"""Page tokens: the places in a list that fleet 1.0's clients hand back to get the next page.

A token is the URL-safe base64 of two little-endian 16-bit numbers, the page size and the page,
counted from 1. It says where to go on, not in which revision: a list that changes between two
pages may show a thing twice or not at all, as in fleet 1.0.
"""

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fleet.errors import InvalidRequest

_T = TypeVar("_T")
_LAYOUT = struct.Struct("<HH")

# What two bytes hold; source: fleet 1.0's api/pagination.go.
MAX_LIMIT = 65_535
DEFAULT_LIMIT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PageToken:
    """A page of a list: `page` counts from 1, in pages of `limit` things."""

    limit: int
    page: int = 1

    @property
    def next(self) -> "PageToken":
        return PageToken(limit=self.limit, page=self.page + 1)


def encode_token(token: PageToken) -> str:
    packed = _LAYOUT.pack(token.limit, token.page)
    return base64.urlsafe_b64encode(packed).decode()


def decode_token(text: str) -> PageToken:
    """The token of that text; raises InvalidRequest if it is not one."""
    try:
        if "+" in text or "/" in text:  # b64decode takes the common alphabet as well
            raise ValueError("it is not in the URL-safe alphabet")
        packed = base64.b64decode(text, altchars=b"-_", validate=True)
        limit, page = _LAYOUT.unpack(packed[: _LAYOUT.size])
    except (binascii.Error, ValueError, struct.error) as error:
        raise InvalidRequest(f"invalid page token {text!r}: {error}") from error
    return PageToken(limit=limit, page=page)


def find_token(values: Sequence[str], limit: int) -> PageToken:
    """The page that these values of `nextPageToken` ask for; raises InvalidRequest."""
    if len(values) > 1:
        raise InvalidRequest("too many values for page token")
    if not values:
        return PageToken(limit=limit)
    token = decode_token(values[0])
    if token.limit != limit:
        raise InvalidRequest(f"token limit must be {limit}")
    if token.page == 0:
        raise InvalidRequest("token page must be greater than zero")
    return token


def cut_page(things: Sequence[_T], token: PageToken | None) -> tuple[Sequence[_T], str | None]:
    """The things on a page, and the token of the next one; without a page, all of them.

    A full page has a next one even if nothing is on it: fleet 1.0's clients count on no more.
    """
    if token is None:
        return things, None
    start = (token.page - 1) * token.limit
    page = things[start : start + token.limit]
    goes_on = len(page) == token.limit and token.page < MAX_LIMIT
    return page, encode_token(token.next) if goes_on else None
