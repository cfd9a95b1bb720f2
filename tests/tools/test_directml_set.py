"""The constraints of DirectML's workers go with what the project asks for."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tools import directml_set
from tools.directml_set import OLD, ROOT, USUAL, main, merged, pins


def test_each_library_is_said_once_the_old_ones_as_they_are() -> None:
    found = list(merged(USUAL.read_text("utf-8"), OLD.read_text("utf-8")))
    old = pins(OLD.read_text("utf-8"))

    assert {"torch==2.4.1", "diffusers==0.36.0", "transformers==5.5.4"} <= set(found)
    assert set(old.values()) <= set(found)
    assert len(pins("\n".join(found))) == len(found)


def test_names_are_compared_as_pip_compares_them() -> None:
    assert list(merged("Huggingface-Hub==2.4.0\n# x\na==1", "huggingface_hub==1.33.0")) == [
        "huggingface_hub==1.33.0",
        "a==1",
    ]


def test_what_the_extra_and_the_project_ask_for_is_among_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["directml"]]
    text = "\n".join(merged(USUAL.read_text("utf-8"), OLD.read_text("utf-8")))
    chosen = {name: Version(line.split("==")[1]) for name, line in pins(text).items()}

    for requirement in map(Requirement, asked):
        name = requirement.name.lower().replace("_", "-")
        if name in chosen:
            assert requirement.specifier.contains(chosen[name], prereleases=True), name
    of_extra = {Requirement(each).name for each in project["optional-dependencies"]["directml"]}
    assert {name for name in of_extra if name not in chosen} == set()


def test_what_cannot_be_installed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(command: Any, **_: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(directml_set.subprocess, "run", fail)
    monkeypatch.setattr(directml_set, "TOO_NEW", (9, 0))

    assert main(["--venv", str(tmp_path), "--install"]) == 1
    assert "could not be installed" in capsys.readouterr().err
    monkeypatch.setattr(directml_set, "TOO_NEW", (3, 0))
    with pytest.raises(SystemExit, match=r"3\.11 or 3\.12"):
        main(["--venv", str(tmp_path), "--install"])
