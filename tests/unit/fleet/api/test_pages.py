"""Page tokens: fleet 1.0's vectors, and what a page of a list is."""

import pytest

from fleet.api.pages import PageToken, cut_page, decode_token, encode_token, find_token
from fleet.errors import InvalidRequest


@pytest.mark.parametrize(
    ("limit", "page", "text"),
    [
        pytest.param(12482, 0, "wjAAAA==", id="no page"),
        pytest.param(19, 11852, "EwBMLg==", id="both numbers"),
        pytest.param(100, 2, "ZAACAA==", id="the second page of a hundred"),
        pytest.param(1023, 0, "_wMAAA==", id="a letter of the URL-safe alphabet"),
        pytest.param(45, 9, "LQAJAA==", id="small numbers"),
    ],
)
def test_token_is_two_little_endian_numbers(limit: int, page: int, text: str) -> None:
    token = PageToken(limit=limit, page=page)
    assert encode_token(token) == text
    assert decode_token(text) == token


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("bogus", id="not base64"),
        pytest.param("basdfasdf", id="badly padded"),
        pytest.param("ZAA=", id="too short"),
        pytest.param("ZAAC+A==", id="a letter of the other alphabet"),
        pytest.param("ZAACAA==ü", id="not even ASCII"),
        pytest.param("ZAAC AA==", id="a blank inside"),
    ],
)
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid page token"):
        decode_token(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(["LQAJAA==", "_wMAAA=="], "too many values for page token", id="two tokens"),
        pytest.param(["EwBMLg=="], "token limit must be 100", id="another page size"),
        pytest.param(["ZAAAAA=="], "token page must be greater than zero", id="page zero"),
        pytest.param([""], "invalid page token", id="an empty token"),
    ],
)
def test_token_that_this_server_did_not_give_is_refused(values: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        find_token(values, 100)


def test_token_is_found_in_a_query() -> None:
    assert find_token([], 100) == PageToken(limit=100, page=1)
    assert find_token(["ZABMLg=="], 100) == PageToken(limit=100, page=11852)


@pytest.mark.parametrize(
    ("count", "page", "first", "length", "next_page"),
    [
        pytest.param(103, 1, 0, 60, 2, id="a full page has a next one"),
        pytest.param(103, 2, 60, 43, None, id="the last page has none"),
        pytest.param(60, 1, 0, 60, 2, id="a page that is just full has a next one all the same"),
        pytest.param(60, 2, None, 0, None, id="which is empty"),
        pytest.param(0, 1, None, 0, None, id="an empty list"),
        pytest.param(103, 65535, None, 0, None, id="far beyond the end"),
    ],
)
def test_page_is_cut_from_a_list(
    count: int, page: int, first: int | None, length: int, next_page: int | None
) -> None:
    things, following = cut_page(range(count), PageToken(limit=60, page=page))
    assert len(things) == length
    assert next(iter(things), None) == first
    expected = encode_token(PageToken(limit=60, page=next_page)) if next_page else None
    assert following == expected


def test_pages_end_at_the_last_number_that_a_token_holds() -> None:
    things, following = cut_page(range(70_000), PageToken(limit=1, page=65_535))
    assert (list(things), following) == ([65_534], None)


def test_without_a_page_the_list_is_whole() -> None:
    assert cut_page([1, 2, 3], None) == ([1, 2, 3], None)
