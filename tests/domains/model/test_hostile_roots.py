"""Whatever lies in a model root harms that model alone."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domains.errors import Reason
from domains.model.backends import disk_scanner, root_look, roots
from domains.model.backends.confinement import Root
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.root_scan import KnownRoot, RootScan
from domains.model.views import Scan
from tests.domains.model.disk import copy_demo, edit, write_safetensors

LORA = {"lora_unet_x_attn2_to_k.lora_down.weight": (8, 2048)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a good model."""
    folder = tmp_path / "root"
    copy_demo(folder / "good")
    return folder


def usable(scan: Scan) -> set[str]:
    return {model.model_id for model in scan.models if model.usable}


def failing(name: str, code: int) -> Callable[..., int]:
    """`os.open` of a machine that cannot open that name."""
    original = os.open

    def opened(path: Any, flags: int, **options: Any) -> int:
        if Path(path).name == name:
            raise OSError(code, os.strerror(code))
        return original(path, flags, **options)

    return opened


def problem_of(root: Path, model_id: str) -> Reason:
    models = {model.model_id: model for model in DiskScanner([root]).scan().models}
    assert models["good"].usable
    problem = models[model_id].problem
    assert problem is not None
    return problem.reason


@pytest.mark.parametrize("part", ["unet", "tokenizer", "extra"])
@pytest.mark.parametrize("entry", [[["a"], "b"], ["diffusers", ["b"]], [{"a": 1}, "b"], [1, 2]])
def test_an_index_entry_that_is_no_text_is_that_models_problem(
    root: Path, part: str, entry: list[Any]
) -> None:
    edit(copy_demo(root / "bad") / "model_index.json", **{part: entry})

    assert problem_of(root, "bad") is Reason.MODEL_CONFIG_INVALID


@pytest.mark.parametrize(
    "place",
    ["x.safetensors", "x.ckpt", "m/README.md", "m/model_index.json", "m/unet/config.json"],
)
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_not_waited_for(root: Path, place: str, linked: bool) -> None:
    if place.startswith("m/"):
        copy_demo(root / "m")
        (root / place).unlink(missing_ok=True)
    pipe = root / "a-pipe" if linked else root / place
    os.mkfifo(pipe)
    if linked:
        (root / place).symlink_to(pipe)

    found = DiskScanner([root], patience=20).scan()

    assert "good" in usable(found)
    assert not any("slow" in problem for problem in found.problems)


def test_links_to_themselves_cost_no_other_model_its_look(root: Path, tmp_path: Path) -> None:
    (root / "aaa").mkdir()
    (root / "aaa" / "model_index.json").write_text("{}")
    (root / "bbb").mkdir()
    for folder in ("aaa", "bbb"):
        for number in range(12):
            (root / folder / f"l{number}").symlink_to(".")
    evil = copy_demo(root / "m1") / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    shutil.move(evil, tmp_path / "outside.safetensors")
    evil.symlink_to(tmp_path / "outside.safetensors")

    found = DiskScanner([root]).scan()

    assert usable(found) == {"good"}
    assert {model.model_id for model in found.models} == {"aaa", "good"}
    assert len(found.problems) == 1
    assert "PATH_OUTSIDE_ROOT" in found.problems[0]


def test_what_was_not_looked_at_is_not_taken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by its size, not by its depth, and not in part."""
    for number in range(40):
        (copy_demo(root / "many") if not number else root / "many" / f"f{number}").mkdir(
            exist_ok=True
        )
    deep = copy_demo(root / "deep").joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    monkeypatch.setattr(roots, "_MAX_MODEL_ENTRIES", 50)

    found = DiskScanner([root]).scan()

    assert {model.model_id for model in found.models} == {"good"}
    assert set(found.problems) == {
        "Model 'many' has too many files.",
        "Model 'deep' is too deep.",
    }


def test_a_heap_of_files_hides_nothing_that_lies_above_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in range(20):
        (root / "aaa" / f"{folder}" / "x").mkdir(parents=True)
    (root / "flat").mkdir()
    for number in range(60):
        (root / "flat" / f"{number}.txt").touch()
    monkeypatch.setattr(root_look, "_MAX_ENTRIES", 100)
    monkeypatch.setattr(root_look, "_MAX_FOLDER_ENTRIES", 50)

    found = DiskScanner([root]).scan()

    assert usable(found) == {"good"}
    assert "Folder 'flat': too many files." in found.problems


def test_a_root_that_cannot_be_read_stays_as_it_was_known(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of file handles, a bad disk, an unmounted one: nothing is said about the models."""
    write_safetensors(root / "sub" / "style.safetensors", LORA)
    scanner = DiskScanner([root])
    first = scanner.scan()
    assert len(first.models) == 2
    for code in (errno.EMFILE, errno.EIO, errno.ESTALE):
        for name in ("root", "sub", "unet"):
            with monkeypatch.context() as patched:
                patched.setattr(os, "open", failing(name, code))
                caplog.clear()
                assert scanner.scan().models == first.models
                assert scanner.scan().models == first.models
                assert caplog.text.count("left out") <= 1, "said again at each scan"
    away = root.rename(root.parent / "away")
    assert scanner.scan().models == first.models
    away.rename(root)
    again = scanner.scan()
    assert (again.models, again.problems) == (first.models, ())


def test_a_model_that_cannot_be_read_at_the_moment_stays_as_it_was_known(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner = DiskScanner([root])
    first = scanner.scan()
    edit(root / "good" / "scheduler" / "scheduler_config.json", steps_offset=0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", failing("scheduler_config.json", errno.EIO))
        during = scanner.scan()

    assert during.models == first.models
    assert during.problems == ("Model 'good' cannot be read at the moment.",)
    assert usable(scanner.scan()) == {"good"}


def test_a_link_that_comes_to_be_during_a_look_is_left_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy_demo(root / "late") / "vae" / "config.json"
    original = disk_scanner.read_folder

    def swapped(found: roots.Found, root: Root) -> Any:
        if found.name == "late":
            shutil.move(config, tmp_path / "outside.json")
            config.symlink_to(tmp_path / "outside.json")
        return original(found, root)

    monkeypatch.setattr(disk_scanner, "read_folder", swapped)

    found = DiskScanner([root]).scan()

    assert [model.model_id for model in found.models] == ["good"]
    assert "PATH_OUTSIDE_ROOT" in found.problems[0]


def test_a_defect_is_told_once_and_costs_one_model(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copy_demo(root / "odd")
    original = disk_scanner.read_folder

    def defective(found: roots.Found, root: Root) -> Any:
        if found.name == "odd":
            raise ZeroDivisionError
        return original(found, root)

    monkeypatch.setattr(disk_scanner, "read_folder", defective)
    scanner = DiskScanner([root])
    for _ in range(3):
        found = scanner.scan()

    assert usable(found) == {"good"}
    odd = next(model for model in found.models if model.model_id == "odd")
    assert odd.problem is not None
    assert odd.problem.reason is Reason.MODEL_FORMAT_UNSUPPORTED
    assert odd.problem.metadata["incident_id"] in caplog.text
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_a_root_that_hangs_keeps_nothing_from_the_others(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    write_safetensors(other / "style.safetensors", LORA)
    answer = threading.Event()
    original = KnownRoot.scan

    def hang(self: KnownRoot, **how: Any) -> RootScan:
        if self.path == root:
            assert answer.wait(60)
        return original(self, **how)

    monkeypatch.setattr(KnownRoot, "scan", hang)
    scanner = DiskScanner([root, other], patience=1)

    for _ in range(2):
        found = scanner.scan()
        assert [model.model_id for model in found.models] == ["style"]
        assert "slow to answer" in found.problems[0]
    answer.set()
    scanner = DiskScanner([root, other])
    assert usable(scanner.scan()) == {"good", "style"}
    assert scanner.scan().problems == ()


def test_a_scan_with_a_defect_is_told_once_and_the_old_models_stay(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scanner = DiskScanner([root])
    first = scanner.scan()
    monkeypatch.setattr(KnownRoot, "scan", lambda _self, **_: 1 / 0)

    for _ in range(3):
        found = scanner.scan()

    assert found.models == first.models
    assert "could not be looked through" in found.problems[0]
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_anything_in_an_index_or_a_header_is_judged(root: Path) -> None:
    """Whole files of random values, by seed; none is a defect, none hides the good model."""
    chance = random.Random(12)

    def value(depth: int = 0) -> Any:
        kinds: list[Any] = [None, True, -1, 2**70, 1e308, "", "diffusers", "\ud800", "x" * 999]
        if depth < 4 and chance.random() < 0.6:
            if chance.random() < 0.5:
                return [value(depth + 1) for _ in range(chance.randrange(4))]
            return {f"k{n}": value(depth + 1) for n in range(chance.randrange(4))}
        return chance.choice(kinds)

    index = json.loads((root / "good" / "model_index.json").read_text())
    for number in range(60):
        folder = root / f"bad{number}"
        folder.mkdir()
        damaged = index | {chance.choice(list(index)): value() for _ in range(3)}
        (folder / "model_index.json").write_text(json.dumps(damaged))
        header = {"a": {"dtype": value(), "shape": value(), "data_offsets": value()}}
        raw = json.dumps(value() if number % 3 else header).encode()
        raw = raw[: chance.randrange(len(raw) + 1)] if number % 2 else raw
        size = len(raw) + chance.choice([0, 0, 0, -1, 1, 2**40])
        content = max(size, 0).to_bytes(8, "little") + raw
        (root / f"file{number}.safetensors").write_bytes(content)

    found = DiskScanner([root]).scan()

    assert len(found.models) == 121
    assert usable(found) == {"good"}
    problems = [model.problem for model in found.models if model.problem]
    assert not any("incident_id" in problem.metadata for problem in problems)
