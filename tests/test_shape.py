"""The map of the code: files of the same names in every domain, a README tree that is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOMAINS = (
    *("artifact", "device", "memory", "model"),
    *("processing", "inference", "postprocessing"),
)
NEEDED = {"__init__", "types", "core", "convert", "servicer", "build"}
WHERE_NEEDED = {"errors", "jobs", "ports", "views", "backends"}
# Made of sessions like everything in their domains, and large enough for packages of their own.
PARTS = {"processing": {"batches", "workflows"}, "postprocessing": {"safety"}}
GENERATED_BY_TOOLS = {"__pycache__"}
SHARED = {"session", "picture", "chain", "provenance", "safety"}


def _modules(folder: Path) -> set[str]:
    """Names of the modules and packages directly inside, as an import would say them."""
    return {
        entry.stem
        for entry in folder.iterdir()
        if entry.suffix == ".py" or (entry / "__init__.py").exists()
    }


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_has_the_common_modules_and_no_others(domain: str) -> None:
    """Knowing one domain is knowing the layout of all."""
    found = _modules(ROOT / "domains" / domain) - WHERE_NEEDED
    assert found - PARTS.get(domain, set()) == NEEDED


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_module_of_a_domain_is_empty(domain: str) -> None:
    """A file that only fills a place in the layout is a file to open for nothing."""
    folder = ROOT / "domains" / domain
    empty = [
        path.name
        for path in folder.glob("*.py")
        if path.name != "__init__.py" and len(ast.parse(path.read_text("utf-8")).body) < 2
    ]

    assert empty == []


@pytest.mark.parametrize("domain", DOMAINS)
def test_nothing_but_modules_lies_in_a_domain(domain: str) -> None:
    """Data, notes and scripts have places of their own."""
    folder = ROOT / "domains" / domain
    entries = {entry.name for entry in folder.iterdir()} - GENERATED_BY_TOOLS
    modules = {name + ".py" for name in _modules(folder)} | _modules(folder)

    assert entries - modules == set()


def test_there_are_seven_domains() -> None:
    """An eighth is a decision, not an accident. Sessions are what all of them start, and
    input pictures what several of them are given; chains of finishing steps and the marks of
    a picture's origin belong to several of them, and all speak of verdicts."""
    folders = {entry.name for entry in (ROOT / "domains").iterdir() if entry.is_dir()}

    assert folders - GENERATED_BY_TOOLS - SHARED == set(DOMAINS)


def test_the_readme_tree_names_what_exists() -> None:
    """Every path of the README's tree exists, and every top folder is in it."""
    tree = _readme_tree()
    if tree is None:
        pytest.skip("README.md has no tree: a fenced block with a line that begins `protos/`")
    missing = [path for path in tree if not _exists(path)]
    visible = {
        entry.name
        for entry in ROOT.iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "_")) and entry.name != "out"
    }

    assert missing == []
    assert visible - {path.split("/")[0] for path in tree} == set()


def _readme_tree() -> list[str] | None:
    """First words of the lines of the README's tree."""
    readme = (ROOT / "README.md").read_text("utf-8")
    for block in re.findall(r"^```\w*\n(.*?)^```", readme, re.MULTILINE | re.DOTALL):
        lines = [line.split()[0] for line in block.splitlines() if line.strip()]
        if any(line.startswith("protos/") for line in lines):
            return lines
    return None


def _exists(path: str) -> bool:
    """Whether it does; `<domain>` stands for each of the seven."""
    return all((ROOT / path.replace("<domain>", domain)).exists() for domain in DOMAINS)
