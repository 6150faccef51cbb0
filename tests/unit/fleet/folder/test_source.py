"""One repository is one source, however it is reached."""

import pytest

from fleet.folder.source import repository_source


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com/shop/units.git",
        "https://alice:secret@git.example.com/shop/units",
        "ssh://git@git.example.com:2222/shop/units.git",
        "git@git.example.com:shop/units.git",
        "git.example.com:shop/units",
        "HTTPS://Git.Example.Com/shop/units/",
    ],
)
def test_repository_has_one_name_whichever_way_leads_there(url: str) -> None:
    assert repository_source(url) == "git.example.com/shop/units"
    assert repository_source(url, "prod/units/") == "git.example.com/shop/units:prod/units"


@pytest.mark.parametrize("url", ["/srv/units.git", "file:///srv/units.git", "/srv/units"])
def test_local_repository_is_its_path(url: str) -> None:
    assert repository_source(url, "") == "/srv/units"
