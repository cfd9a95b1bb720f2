"""README and pages tell the truth: RPCs, commands, targets, files, links, settings."""

from __future__ import annotations

import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pool import Default

from domains.errors import Reason
from domains.model.backends.model_card import read_card
from server.app import SERVICE_NAMES
from server.cli.app import app
from server.config import Settings
from server.metrics import Metrics
from tests.contract.built import built_rpcs

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
CSHARP_TESTS = ROOT / "clients/csharp/DeviceOperations.Client.Tests"
# Settings whose default is a folder of this user, or of this checkout.
_DEPENDS_ON_USER = {"data_dir", "runtime_dir", "model_roots"}
_PLACEHOLDER = re.compile(r"<\w+>|\*")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def services() -> Iterator[ServiceDescriptor]:
    for name in SERVICE_NAMES:
        yield Default().FindServiceByName(name)


@pytest.mark.parametrize("service", list(services()), ids=lambda service: str(service.name))
def test_the_table_says_of_every_rpc_whether_it_works(service: ServiceDescriptor) -> None:
    """Built is what a servicer overrides; what it inherits answers UNIMPLEMENTED."""
    row = re.search(rf"^\| {service.name} \|(.*)\|(.*)\|$", README.read_text("utf-8"), re.M)
    assert row is not None
    said = [re.findall(r"`(\w+)`", cell) for cell in row.groups()]
    rpcs = [method.name for method in service.methods]
    own = [name for name in rpcs if f"{service.name}.{name}" in built_rpcs()]

    assert said == [[n for n in rpcs if n in own], [n for n in rpcs if n not in own]]


@pages
def test_the_csharp_examples_of_a_page_are_those_that_are_compiled(page: Path) -> None:
    name = re.escape(page.relative_to(ROOT).as_posix())
    compiled = [
        textwrap.dedent(code).strip()
        for source in sorted(CSHARP_TESTS.glob("*.cs"))
        for code in re.findall(
            rf"// {name} begins\n(.*?)\s*// {name} ends", source.read_text("utf-8"), re.DOTALL
        )
    ]
    shown = re.findall(r"(?ms)^```csharp\n(.*?)\n```", page.read_text("utf-8"))

    assert shown == compiled


def blocks(page: Path) -> Iterator[str]:
    """Code blocks in which nothing but commands stands: those without a language."""
    yield from re.findall(r"^```\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """Words of every command line, in blocks and between backticks."""
    text = page.read_text("utf-8")
    lines = [line for block in blocks(page) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for line in lines:
        for part in (line, *re.findall(r"\$\((.*?)\)", line)):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            if words:
                yield words


@pages
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = {words[1] for words in commands(page) if words[0] == "make" and len(words) > 1}

    assert {name for name in named if "=" not in name} - targets == set()


@cache
def everything() -> Any:
    """The command line, with all its commands."""
    return typer.main.get_command(app)


@pages
def test_every_deviceops_command_and_option_exists(page: Path) -> None:
    top = everything()
    for words in commands(page):
        if words[0].rpartition("/")[2] != "deviceops":
            continue
        command, known = top, {option for p in top.params for option in p.opts}
        expecting_value = False
        for word in words[1:]:
            if word in {"|", ">", "2>", "&&", "&"}:
                break
            if expecting_value:
                expecting_value = False
                continue
            if word.startswith("-"):
                option = word.partition("=")[0]
                assert option in known | {"--help"}, (page.name, words)
                (parameter,) = [p for p in command.params if option in p.opts] or [None]
                takes = parameter is not None and not getattr(parameter, "is_flag", False)
                expecting_value = takes and "=" not in word
            elif getattr(command, "commands", None):
                assert word in command.commands, (page.name, words)
                command = command.commands[word]
                known = {option for p in command.params for option in p.opts}


@pages
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    broken = [
        target
        for target in targets
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert broken == []


@pages
def test_every_file_named_between_backticks_exists(page: Path) -> None:
    """Paths that begin with a folder of the repository."""
    top = {entry.name for entry in ROOT.iterdir() if entry.is_dir()} - {"out", ".venv"}
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    named = [
        name
        for name in re.findall(r"`([\w.\-/<>*]+)`", text)
        if "/" in name and name.split("/")[0] in top and not _PLACEHOLDER.search(name)
    ]

    assert [name for name in named if not (ROOT / name).exists()] == []


@pages
def test_every_reason_and_rpc_named_exists(page: Path) -> None:
    """`Service.Method`, and capital words introduced as reasons."""
    text = page.read_text("utf-8")
    rpcs = {f"{service.name}.{m.name}" for service in services() for m in service.methods}
    named = set(re.findall(r"`(\w+Service\.[A-Z]\w+)`", text))
    called = {
        f"{service}.{method}"
        for service, method in re.findall(r"deviceops\.v1\.(\w+Service)/(\w+)", text)
    }

    assert (named | called) - rpcs == set()
    if page.name == "troubleshooting.md":
        reasons = set(re.findall(r"^\| `([A-Z_]+)`", text, re.M))
        assert reasons
        assert reasons - {reason.value for reason in Reason} == set()


def settings_table() -> dict[str, str]:
    """The settings of docs/operations.md with the default each row states."""
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    text = page.partition("## Settings")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", text, re.M))


def test_every_setting_stands_in_the_table_in_order() -> None:
    assert list(settings_table()) == list(Settings.model_fields)


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - _DEPENDS_ON_USER))
def test_a_default_is_as_the_table_says(name: str) -> None:
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    shown = settings_table()[name].strip("`")
    if default in (None, "", {}, ()):
        assert shown == "empty"
    elif isinstance(default, bool):
        assert shown == str(default).lower()
    elif isinstance(default, str):
        assert shown == default
    else:
        assert float(shown.replace(" ", "")) == default


def test_every_metric_stands_in_the_table() -> None:
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    shown = set(re.findall(r"^\| `(deviceops_\w+)` \|", text, re.M))
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics().registry.collect()
    }

    assert shown == families


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    named = [*project["dependencies"], *(one for extra in extras for one in extra)]
    text = (ROOT / "docs/adr/0005-dependencies.md").read_text("utf-8")
    words = set(re.findall(r"[\w-]+", text))
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in named}  # type: ignore[index]

    assert names - words == set()


def test_the_demo_model_card_says_what_the_catalogue_shows() -> None:
    card = read_card((ROOT / "demo/models/emoji-xl/README.md").read_bytes())

    assert card.license == "MIT"
    assert "256x256" in card.description
    assert {"sdxl", "emoji"} <= set(card.tags)
