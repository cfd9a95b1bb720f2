"""The port file and the lock on the data folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server import portfile
from server.lock import FolderInUse, FolderLock
from server.portfile import ServerLocation

HERE = ServerLocation(address="127.0.0.1:50051", pid=4242, tls=False, auth=True)
ROOT = Path(__file__).parents[2]


def test_port_file_round_trip(tmp_path: Path) -> None:
    portfile.write(tmp_path, HERE)
    assert portfile.read(tmp_path) == HERE
    assert json.loads((tmp_path / "server.json").read_text())["address"] == HERE.address
    assert [entry.name for entry in tmp_path.iterdir()] == ["server.json"]


def test_no_server_wrote_one(tmp_path: Path) -> None:
    assert portfile.read(tmp_path) is None
    assert portfile.read(tmp_path / "missing") is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"address": "a", "pid": "x"}'])
def test_unreadable_port_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text)
    assert portfile.read(tmp_path) is None


def test_only_its_writer_removes_it(tmp_path: Path) -> None:
    portfile.write(tmp_path, HERE)
    portfile.remove(tmp_path, pid=1)
    assert portfile.read(tmp_path) == HERE
    portfile.remove(tmp_path, pid=HERE.pid)
    portfile.remove(tmp_path, pid=HERE.pid)
    assert portfile.read(tmp_path) is None


def test_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portfile.write(tmp_path, HERE)

    def refuse(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no room"):
        portfile.write(tmp_path, ServerLocation("elsewhere:1", 1, False, False))
    assert portfile.read(tmp_path) == HERE
    assert [entry.name for entry in tmp_path.iterdir()] == ["server.json"]


def test_lock_is_exclusive_and_names_its_holder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(FolderInUse) as caught:
        FolderLock(tmp_path)
    assert caught.value.pid == os.getpid()
    assert str(os.getpid()) in str(caught.value)
    lock.release()
    FolderLock(tmp_path).release()


def test_lock_goes_with_a_killed_holder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, server.lock as l;"
        "held = l.FolderLock(pathlib.Path(sys.argv[1])); print('held', flush=True);"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUse) as caught:
            FolderLock(tmp_path)
        assert caught.value.pid == holder.pid
        holder.kill()
    FolderLock(tmp_path).release()
