"""What can be opened through a root: regular files that lie in it, and nothing else."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from domains.model.backends import confinement
from domains.model.backends.confinement import Root, is_of_the_file, open_root
from domains.model.backends.descriptor_root import DescriptorRoot
from domains.model.backends.handle_root import HandleRoot
from domains.model.errors import PathOutsideRoot

MakeRoot: TypeAlias = Callable[[Path], Root]


def by_handle(path: Path) -> Root:
    """As on Windows, with what this system has for it."""
    return HandleRoot(path, lambda descriptor: Path(os.readlink(f"/proc/self/fd/{descriptor}")))


WAYS = [
    pytest.param(
        DescriptorRoot,
        id="descriptors",
        marks=pytest.mark.skipif(
            not confinement._OPENS_BY_DESCRIPTOR, reason="this system cannot"
        ),
    ),
    pytest.param(
        by_handle,
        id="handles",
        marks=pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc"),
    ),
]


@pytest.fixture(params=WAYS)
def make(request: pytest.FixtureRequest) -> MakeRoot:
    """Each way to open a root."""
    way: MakeRoot = request.param
    return way


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a file, and one outside."""
    folder = tmp_path / "root"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "file").write_text("inside")
    (folder / "sub" / "file").write_text("below")
    (tmp_path / "root_evil").mkdir()
    (tmp_path / "root_evil" / "file").write_text("secret")
    return folder


def read(root: Root, *inside: str) -> bytes:
    with root.open(*inside) as file:
        return file.read()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


def test_files_are_read_and_folders_listed(make: MakeRoot, root: Path) -> None:
    opened = make(root)
    before = descriptors()

    assert read(opened, "file") == b"inside"
    assert read(opened, "sub", "file") == b"below"
    listing = opened.list("sub", most=10)
    assert [name for name, _ in listing.entries] == ["deep", "file"]
    assert listing.entries[1][1].st_size == 5
    assert len(opened.list(most=0).entries) == 1
    assert opened.find("sub", "file").inside == ("sub", "file")
    assert descriptors() == before


@pytest.mark.parametrize(
    "target", ["sub/file", "sub/../sub/file", "{root}/sub/file", "chain", "{alias}/sub/file"]
)
def test_links_inside_lead_where_they_say(
    make: MakeRoot, root: Path, tmp_path: Path, target: str
) -> None:
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    (root / "chain").symlink_to("again")
    (root / "again").symlink_to("sub/file")
    (root / "link").symlink_to(target.format(root=root, alias=alias))
    (root / "down").symlink_to("sub")
    opened = make(alias)

    assert read(opened, "link") == b"below"
    assert opened.find("link").inside == ("sub", "file")
    assert read(opened, "down", "file") == b"below"


@pytest.mark.parametrize("target", ["../root_evil/file", "{outside}/file", "/etc/passwd", ".."])
def test_links_outside_are_refused_and_left_alone(
    make: MakeRoot, root: Path, tmp_path: Path, target: str
) -> None:
    (root / "link").symlink_to(target.format(outside=tmp_path / "root_evil"))
    (root / "sub" / "folder").symlink_to(tmp_path / "root_evil")
    (root / "chain").symlink_to("sub/folder/file")
    before = descriptors()

    for place in (("link",), ("sub", "folder", "file"), ("chain",)):
        for act in (make(root).find, make(root).open):
            with pytest.raises(PathOutsideRoot):
                act(*place)
    with pytest.raises(PathOutsideRoot):
        make(root).list("sub", "folder", most=10)
    assert descriptors() == before


@pytest.mark.parametrize("names", [("..", "root_evil", "file"), ("sub/file",), ("",), (".",)])
def test_a_name_is_one_name(make: MakeRoot, root: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(PathOutsideRoot):
        make(root).open(*names)


def test_what_is_no_file_is_refused_at_once(make: MakeRoot, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "to-pipe").symlink_to("pipe")
    listening = socket.socket(socket.AF_UNIX)
    place = os.getcwd()
    os.chdir(root)  # a socket's path is short
    try:
        listening.bind("socket")
    finally:
        os.chdir(place)
    before = descriptors()

    for name in ("pipe", "to-pipe", "socket", "sub"):
        with pytest.raises(OSError, match="not a regular file") as refused:
            make(root).open(name)
        assert is_of_the_file(refused.value)
    listening.close()
    assert descriptors() <= before


def test_links_in_circles_are_the_files_own_fault(make: MakeRoot, root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "self").symlink_to("self/self")

    for name in ("a", "self"):
        with pytest.raises(OSError, match=r"symbolic|regular") as refused:
            make(root).open(name)
        assert is_of_the_file(refused.value)


@pytest.mark.parametrize("swapped", ["file", "sub"])
def test_a_name_that_changes_after_the_look_leads_nowhere(
    make: MakeRoot, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    """The very moment between looking at a name and opening it."""
    original = os.open
    at = root / swapped
    outside = tmp_path / "root_evil"

    def swap(path: Any, flags: int, **options: Any) -> int:
        if Path(path).name in {swapped, "file"} and not at.is_symlink():
            at.rename(tmp_path / "moved")
            at.symlink_to(outside if swapped == "sub" else outside / "file")
        return original(path, flags, **options)

    opened = make(root)
    monkeypatch.setattr(os, "open", swap)
    place = ("file",) if swapped == "file" else ("sub", "file")

    with pytest.raises((OSError, PathOutsideRoot)):
        opened.open(*place)
    assert at.is_symlink()


def test_a_file_that_becomes_a_pipe_is_not_waited_for(
    make: MakeRoot, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.open

    def swap(path: Any, flags: int, **options: Any) -> int:
        if Path(path).name == "file" and (root / "file").is_file():
            (root / "file").unlink()
            os.mkfifo(root / "file")
        return original(path, flags, **options)

    if make is by_handle:
        pytest.skip("Windows has no pipes among files")
    opened = make(root)
    monkeypatch.setattr(os, "open", swap)

    with pytest.raises(OSError, match="not a regular file"):
        opened.open("file")


def test_faults_of_the_machine_are_not_the_files() -> None:
    for code in (errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM, errno.ESTALE):
        assert not is_of_the_file(OSError(code, "x"))
    for code in (errno.ENOENT, errno.EACCES, errno.ELOOP, errno.ENOTDIR):
        assert is_of_the_file(OSError(code, "x"))


def test_this_system_opens_as_it_can(root: Path) -> None:
    assert isinstance(open_root(root), DescriptorRoot | HandleRoot)
    with pytest.raises(FileNotFoundError):
        open_root(root / "none").find()
