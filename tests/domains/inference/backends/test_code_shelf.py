"""Compiled code on disk, by a program that makes what it is told to in place of a compiler."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from domains.codec import encode_json
from domains.errors import Cancelled
from domains.inference.backends.compiled import shelf as shelf_module
from domains.inference.backends.compiled.code import Code
from domains.inference.backends.compiled.making import (
    FACTS,
    CodeFacts,
    Ended,
    Task,
    ended_with,
    temporaries_in,
)
from domains.inference.backends.compiled.order import CodeOrder
from domains.inference.backends.compiled.shelf import CodeShelf

_MAKER = """
import sys, json
from pathlib import Path
task = json.loads(sys.stdin.readline())
folder = Path(task["folder"])
Path(sys.argv[1]).open("a").write(task["order"]["network"] + chr(10))
status = int(sys.argv[2])
if status == 0:
    (folder / "facts.json").write_text("made")
sys.exit(status)
"""


@dataclass
class Makers:
    """Shelves over one folder, and what their makers were asked for."""

    folder: Path
    script: Path
    log: Path

    def shelf(self, status: int = 0) -> CodeShelf:
        command = [sys.executable, str(self.script), str(self.log), str(status)]
        return CodeShelf(self.folder / "compiled", command)

    @property
    def made(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture
def makers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Makers:
    """What they leave behind is taken for code as it is; "damaged" cannot be loaded."""

    def load(folder: Path) -> Any:
        if (folder / FACTS).read_text() == "damaged":
            raise ValueError("damaged")
        return folder.name

    monkeypatch.setattr(shelf_module.Code, "load", load)
    script = tmp_path / "maker.py"
    script.write_text(_MAKER)
    return Makers(tmp_path, script, tmp_path / "log")


ORDER = CodeOrder(
    network="UNet",
    config="{}",
    part="",
    data_type="float32",
    channels_last=False,
    device="cpu",
    form="[]",
    leaves=(None,),
    steady=(),
    machine="m",
)


def settled(shelf: CodeShelf, order: CodeOrder = ORDER) -> Any:
    shelf.want(order)
    shelf.settled(lambda: None)
    return shelf.code(order)


def test_code_is_made_once_and_found_by_the_next_process(makers: Makers) -> None:
    first = makers.shelf()
    assert first.code(ORDER) is None
    assert settled(first) == ORDER.key
    assert settled(first) == settled(makers.shelf()) == ORDER.key
    assert makers.made == ["UNet"]
    assert (makers.folder / "compiled").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "change", [{"part": "decoder"}, {"machine": "n"}, {"leaves": (1,)}, {"steady": (True,)}]
)
def test_another_order_is_other_code(makers: Makers, change: dict[str, Any]) -> None:
    from msgspec import structs

    other = structs.replace(ORDER, **change)
    assert settled(makers.shelf()) != settled(makers.shelf(), other)
    assert len(makers.made) == 2


def test_what_cannot_be_compiled_is_not_tried_again(makers: Makers) -> None:
    assert settled(makers.shelf(Ended.CANNOT)) is None
    assert settled(makers.shelf()) is None
    assert len(makers.made) == 1


# Python itself ends with 1, where it cannot import something.
@pytest.mark.parametrize("status", [Ended.NOT_NOW, 1])
def test_what_cannot_be_compiled_for_now_is_tried_by_the_next_process(
    makers: Makers, status: int
) -> None:
    assert settled(makers.shelf(status)) is None
    assert settled(makers.shelf()) == ORDER.key
    assert [each.name for each in (makers.folder / "compiled").iterdir()] == [ORDER.key]


@pytest.mark.parametrize("script", ["import time; time.sleep(60)", "import os; os.abort()"])
def test_a_compiler_that_is_ended_may_do_better_another_time(
    makers: Makers, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(shelf_module, "_MOST_SECONDS", 0.5)
    usual = makers.script.read_text()
    makers.script.write_text(script)
    assert settled(makers.shelf()) is None
    assert not list((makers.folder / "compiled").iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(shelf_module.Code, "load", lambda folder: folder.name)
    makers.script.write_text(usual)
    assert settled(makers.shelf()) == ORDER.key


def test_a_compiler_that_cannot_be_started_leaves_plain_code(tmp_path: Path) -> None:
    assert settled(CodeShelf(tmp_path / "compiled", [str(tmp_path / "nothing")])) is None
    assert not list((tmp_path / "compiled").iterdir())


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


NOT_NOW: list[Callable[[Any], Exception]] = [
    lambda _: OSError(errno.ENOSPC, "No space left on device"),
    lambda _: _caused(RuntimeError("compiling"), FileNotFoundError("g++")),
    lambda _: torch.OutOfMemoryError("CUDA out of memory"),
    lambda theirs: theirs.InductorError(FileNotFoundError("ptxas"), None),
    lambda theirs: theirs.InductorError(MemoryError(), None),
    lambda theirs: theirs.InductorError(theirs.InvalidCxxCompiler(), None),
    lambda theirs: theirs.InductorError(theirs.InvalidCxxCompiler("clang"), None),
    lambda theirs: theirs.TritonMissing(None),
    lambda theirs: theirs.CppCompileError(["g++"], "a.cpp: No space left on device"),
    lambda theirs: theirs.CppCompileError(["g++"], "Python.h: No such file or directory"),
]
CANNOT: list[Callable[[Any], Exception]] = [
    lambda theirs: theirs.CppCompileError(["g++"], "error: expected ';'"),
    lambda theirs: theirs.InductorError(NotImplementedError("an operator"), None),
    lambda _: AttributeError("module diffusers has no attribute UNet"),
]


@pytest.mark.parametrize(
    ("error", "ended"),
    [(each, Ended.NOT_NOW) for each in NOT_NOW] + [(each, Ended.CANNOT) for each in CANNOT],
)
def test_who_makes_code_tells_what_is_so_for_now(
    error: Callable[[Any], Exception], ended: Ended
) -> None:
    from torch._inductor import exc

    assert ended_with(error(exc)) is ended


def test_who_makes_code_has_a_folder_for_temporary_files_of_its_own(tmp_path: Path) -> None:
    usual = tempfile.gettempdir()
    with temporaries_in(tmp_path):
        assert Path(tempfile.mkdtemp()).is_relative_to(tmp_path)
    assert tempfile.gettempdir() == usual
    assert not list(tmp_path.iterdir())


def test_damaged_code_is_made_anew(makers: Makers) -> None:
    settled(makers.shelf())
    (makers.folder / "compiled" / ORDER.key / FACTS).write_text("damaged")
    assert settled(makers.shelf()) == ORDER.key
    assert len(makers.made) == 2


def test_code_that_lacks_a_file_is_damaged(tmp_path: Path) -> None:
    facts = CodeFacts(names=(), steady=(), before=(), step=(), result="")
    (tmp_path / FACTS).write_bytes(encode_json(facts))
    with pytest.raises(ValueError, match="incomplete"):
        Code.load(tmp_path)


@pytest.mark.parametrize(
    "trouble", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()]
)
def test_code_that_cannot_be_loaded_for_now_is_kept(
    makers: Makers, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    settled(makers.shelf())

    def load(folder: Path) -> Any:
        raise trouble

    usual = shelf_module.Code.load
    monkeypatch.setattr(shelf_module.Code, "load", load)
    assert settled(makers.shelf()) is None
    monkeypatch.setattr(shelf_module.Code, "load", usual)
    assert settled(makers.shelf()) == ORDER.key
    assert len(makers.made) == 1


def test_refused_code_is_not_made_again(makers: Makers) -> None:
    shelf = makers.shelf()
    settled(shelf)
    shelf.refuse(ORDER, "slower")
    assert shelf.code(ORDER) is None
    assert settled(makers.shelf()) is None
    assert len(makers.made) == 1


def test_who_waits_can_be_stopped(makers: Makers) -> None:
    makers.script.write_text("import sys; sys.stdin.readline(); sys.stdin.read()")
    shelf = makers.shelf()
    shelf.want(ORDER)

    def stop() -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        shelf.settled(stop)


def test_the_folders_used_last_are_kept(
    makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msgspec import structs

    monkeypatch.setattr(shelf_module, "_MOST_FOLDERS", 1)
    shelf, other = makers.shelf(), structs.replace(ORDER, machine="other")
    settled(shelf)
    unpacked = makers.folder / "compiled" / "unpacked-cpu"
    unpacked.mkdir()
    os.utime(unpacked, (0, 0))
    settled(shelf, other)
    left = sorted(each.name for each in (makers.folder / "compiled").iterdir())
    assert left == [other.key, unpacked.name], "what workers unpacked is their own"


@pytest.mark.demonstration
def test_making_ends_with_who_asked(tmp_path: Path) -> None:
    making = subprocess.Popen(
        [sys.executable, "-m", "domains.inference.backends.compiled.making"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert making.stdin is not None
    making.stdin.write(encode_json(Task(ORDER, tmp_path)) + b"\n")
    making.stdin.close()
    assert making.wait(120) == Ended.NOT_NOW
    assert not list(tmp_path.iterdir())
