"""What an installed wheel would hold."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

import pytest
from hatchling.builders.wheel import WheelBuilder

_OF_WEIGHTS = ("safetensors", "LICENSE")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shipped() -> set[str]:
    """Paths inside the wheel, from the build backend's own file selection."""
    files = WheelBuilder(str(ROOT)).recurse_included_files()
    return {Path(file.distribution_path).as_posix() for file in files}


def _tracked(*folders: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_every_module_is_shipped(shipped: set[str]) -> None:
    """Nothing under domains/ and server/ is left behind."""
    modules = {name for name in _tracked("domains", "server") if name.endswith(".py")}

    assert modules
    assert modules - shipped == set()


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder without __init__.py works from the tree and puzzles every tool."""
    modules = [PurePosixPath(name) for name in _tracked("domains", "server")]
    folders = {module.parent for module in modules if module.suffix == ".py"}

    assert [
        str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()
    ] == []


def test_generated_code_is_importable_where_it_lands(shipped: set[str]) -> None:
    """The folder generated/python is no part of any import path."""
    prefix = "generated/python/"
    generated = {name.removeprefix(prefix) for name in _tracked(prefix)}

    assert "deviceops/v1/device_pb2_grpc.py" in generated
    assert generated - shipped == set()


def test_the_demo_model_lies_beside_the_server(shipped: set[str]) -> None:
    """server.config looks for it in demo/models next to its own package."""
    weights = {name for name in _tracked("demo/models") if name.endswith(".safetensors")}
    base = {name for name in weights if name.startswith("demo/models/emoji-xl/")}

    assert base
    # Its companions are for trying features out: they would triple what everybody installs.
    assert weights & shipped == base


def test_weights_lie_beside_the_code_that_uses_them(shipped: set[str]) -> None:
    """With their licence."""
    files = {name for name in _tracked("domains") if not name.endswith(".py")}
    assert {f"domains/chain/backends/classifiers/nsfwjs.{end}" for end in _OF_WEIGHTS} <= files
    assert files - shipped == set()


@pytest.mark.parametrize("folder", ["demo/configs", "domains/model/backends/bundled"])
def test_what_single_files_need_beside_them_is_shipped(folder: str, shipped: set[str]) -> None:
    """Tokenizers and configurations that a checkpoint of one file does not hold."""
    files = set(_tracked(folder))
    assert files
    assert files - shipped == set()
