"""The socket that fleetd makes for itself: whose it is, and when the path is free."""

import os
import socket
import stat
from pathlib import Path

import pytest

from fleet.api.access import READERS, WRITERS
from fleet.api.listen import acl_for, admit_readers, listen_at
from fleet.errors import Conflict, InvalidRequest

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to groups")


def no_group(name: str) -> int | None:
    return None


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_socket_is_private_without_the_group(tmp_path: Path) -> None:
    path = tmp_path / "below" / "fleet.sock"
    listener = listen_at(path, no_group)
    with listener.socket:
        assert mode(path) == 0o600
        listener.remove_file()
    assert not path.exists()


@as_root
def test_socket_belongs_to_the_group(tmp_path: Path) -> None:
    path = tmp_path / "fleet.sock"
    with listen_at(path, {WRITERS: 4711}.get).socket:
        assert (mode(path), path.stat().st_uid, path.stat().st_gid) == (0o660, 0, 4711)


@as_root
@pytest.mark.parametrize("groups", [{READERS: 4712}, {READERS: 4712, WRITERS: 4711}])
def test_viewers_are_let_in_by_an_access_control_list(
    tmp_path: Path, groups: dict[str, int]
) -> None:
    path = tmp_path / "fleet.sock"
    with listen_at(path, groups.get).socket:
        acl = os.getxattr(path, "system.posix_acl_access")
        assert acl == acl_for(4712, members=6 if WRITERS in groups else 0)
        assert mode(path) & 0o007 == 0


@as_root
@pytest.mark.parametrize(("given", "members"), [(0o660, 6), (0o600, 0)])
def test_viewers_are_let_in_to_a_socket_of_the_service_manager(
    tmp_path: Path, given: int, members: int
) -> None:
    path = tmp_path / "fleet.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        path.chmod(given)
        for _ in range(2):  # as fleetd starts again and again, the socket stays
            admit_readers(path, {READERS: 4712}.get)
            acl = os.getxattr(path, "system.posix_acl_access")
            assert acl == acl_for(4712, members=members)


def test_socket_that_nobody_listens_on_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "fleet.sock"
    listen_at(path, no_group).socket.close()
    assert path.exists()
    with listen_at(path, no_group).socket, socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))


def test_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "fleet.sock"
    with listen_at(path, no_group).socket, socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(Conflict, match="another fleetd"):
            listen_at(path, no_group)
        client.connect(os.fspath(path))


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "fleet.sock"
    path.write_text("precious")
    with pytest.raises(Conflict, match="no socket"):
        listen_at(path, no_group)
    assert path.read_text() == "precious"


def test_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be the path of a socket"):
        listen_at(tmp_path / ("x" * 120), no_group)


def test_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "fleet.sock"
    first = listen_at(path, no_group)
    path.rename(tmp_path / "old.sock")
    with first.socket, listen_at(path, no_group).socket:
        first.remove_file()
        assert path.exists()
