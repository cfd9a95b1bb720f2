"""A family is three files and its name: one that the product does not have is added so."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import domains
from domains.model.backends.families.registry import FAMILIES

OWN = Path(__file__).parent / "third_family"
PRODUCT = Path(domains.__file__).parent
# Where each of the three goes, by its name here.
PLACES = {
    "family.py": "model/backends/families/tiny.py",
    "kinds.py": "model/backends/checkpoint_kinds/tiny.py",
    "drawn.py": "inference/backends/families/tiny.py",
}


@pytest.mark.demonstration
def test_three_files_add_a_family(tmp_path, monkeypatch):
    """Recognised, planned, loaded, encoded and drawn, as a folder and as a file, with the bits
    of the reference."""
    tree, root = tmp_path / "tree", tmp_path / "models"
    shutil.copytree(PRODUCT, tree / "domains", ignore=shutil.ignore_patterns("__pycache__"))
    for own, place in PLACES.items():
        assert not (tree / "domains" / place).exists()
        shutil.copy(OWN / own, tree / "domains" / place)
    types = tree / "domains" / "model" / "types.py"
    last = '    FLUX = "flux"\n'
    assert last in types.read_text("utf-8")
    grown = types.read_text("utf-8").replace(last, f'{last}    TINY = "tiny"\n')
    types.write_text(grown, "utf-8")
    root.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tree))
    ran = subprocess.run(
        [sys.executable, OWN / "prove.py", root],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["spread"] > 1, "a picture of one colour would be like any other"
    as_it_should_be = {
        "usable": True,
        "problem": None,
        "architecture": "tiny",
        "prediction": "v_prediction",
        "same": True,
    }
    assert told["models"] == dict.fromkeys(["tiny-file", "tiny-folder"], as_it_should_be)


DRAWN = {family.architecture.name for family in FAMILIES if family.drawn}
# Other programs' files that only look like a family's, and are refused by their kind.
RECOGNISED_ONLY = {"model/backends/recognition/controls.py"}


def named_families() -> Iterator[str]:
    """Modules outside of the families' own that name one that is drawn with."""
    for path in PRODUCT.rglob("*.py"):
        if path.parent.name in ("families", "checkpoint_kinds"):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "Architecture"
                and node.attr in DRAWN
            ):
                yield path.relative_to(PRODUCT).as_posix()


def test_a_family_is_named_in_its_own_files_alone():
    assert set(named_families()) <= RECOGNISED_ONLY
