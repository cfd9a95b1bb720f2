"""Rules that hold the code together and that no single test of a part would notice."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from tests.contract.protos import parse

ROOT = Path(__file__).parents[1]
MOST_LINES = 400

# Spelled in pieces, so that this file does not hold what it forbids.
MACHINE_PATH = re.compile(
    r"(?<![\w.$}~-])/(?:" + "|".join(("work", "root", "home", "Users", "mnt")) + r")/[\w.]"
)
REGISTRY_HOST = re.compile(
    r"\b(?:"
    + "|".join(
        (
            "pypi" + r"\.org",
            "pythonhosted" + r"\.org",
            "nuget" + r"\.org",
            "npmjs" + r"\.(?:org|com)",
            "download" + r"\.pytorch\.org",
        )
    )
    + r")\b"
)

# A field of these names gets a trailing underscore in C#, or hides a member of messages.
CSHARP_MEMBERS = {
    "Descriptor",
    "Parser",
    "Types",
    "Clone",
    "Equals",
    "CalculateSize",
    "GetHashCode",
    "GetType",
    "MergeFrom",
    "ToString",
    "WriteTo",
}


def _tracked(*suffixes: str) -> Iterator[tuple[str, str]]:
    """Names and texts of the tracked text files, of all suffixes or of these."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if suffixes and path.suffix not in suffixes:
            continue
        try:
            yield name, path.read_text("utf-8")
        except (FileNotFoundError, UnicodeDecodeError):  # removed just now; not text
            continue


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_keep_their_contracts() -> None:
    """.importlinter says who may import whom."""
    done = _lint_imports(ROOT)

    assert done.returncode == 0, done.stdout + done.stderr


PLANTED = [
    ("domains/device/types.py", "import domains.memory.types", "look downwards"),
    ("domains/processing/ports.py", "import domains.inference.types", "look downwards"),
    ("domains/session/ports.py", "import domains.device.types", "look downwards"),
    ("domains/artifact/types.py", "import domains.session.types", "look downwards"),
    ("domains/inference/types.py", "import domains.postprocessing.types", "downwards"),
    ("domains/device/types.py", "import domains.device.ports", "modules of a domain"),
    ("domains/device/helpers.py", "", "modules of a domain"),
    ("domains/memory/types.py", "import google.protobuf", "plain Python"),
    ("domains/model/ports.py", "import torch", "plain Python"),
    ("domains/inference/servicer.py", "import domains.model.servicer", "know servicers"),
    ("server/serve.py", "import domains.model.servicer", "know servicers"),
    ("domains/inference/core/__init__.py", "import domains.model.build", "put together"),
    ("server/serve.py", "import domains.model.build", "put together"),
    ("server/compose.py", "import domains.model.core", "by their builds"),
    ("server/compose.py", "import domains.model.backends.disk_scanner", "by their builds"),
    ("server/config.py", "import torch", "Only backends"),
    ("server/config.py", "import server.serve", "The server"),
    ("server/cli/exits.py", "import domains.device.types", "command line"),
]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each contract that breaks when all of these are planted, by its name."""
    folder = tmp_path_factory.mktemp("planted")
    for name in ("domains", "server"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / ".importlinter", folder)
    for module, line, _ in PLANTED:
        planted = folder / module
        before = planted.read_text("utf-8") if planted.exists() else '"""Planted."""\n'
        planted.write_text(f"{before}\n{line}\n", "utf-8")
    done = _lint_imports(folder)
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stdout.partition("Broken contracts")[2]
    parts = re.split(r"^(\w.*)\n-+\n", told, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("module", "line", "contract"), PLANTED)
def test_a_planted_import_breaks_a_contract(
    broken: dict[str, str], module: str, line: str, contract: str
) -> None:
    """The contracts bite: each of these would be a step towards a tangle."""
    importer = module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    imported = line.removeprefix("import ").removesuffix(".protobuf")
    found = f"{importer} -> {imported} (" if line else f"- {importer}\n"
    assert any(contract in name and found in told for name, told in broken.items()), broken


@pytest.mark.parametrize("module", ["server.serve", "server.compose", "server.cli.app"])
def test_the_front_process_never_imports_torch(module: str) -> None:
    """It answers within a second of its start, whatever the workers load."""
    heavy = "{'torch', 'diffusers', 'transformers', 'scipy'}"
    program = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_only_four_files_touch_the_environment() -> None:
    """Ruff forbids it everywhere; this keeps the exception from being claimed elsewhere.
    The others choose what a worker inherits, settle what its libraries read, and look where a
    test wants this process to die, which no user shall find among the settings.
    """
    exempt = re.compile(r"#\s*noqa:.*" + "TID251")
    claimed = {name for name, text in _tracked(".py") if exempt.search(text)}
    claimed = {name for name in claimed if not name.startswith("tests/")}

    assert claimed <= {
        "domains/failpoints.py",
        "server/config.py",
        "server/worker/front/environment.py",
        "server/worker/child/environment.py",
    }


def test_no_file_names_a_machine_or_a_registry() -> None:
    """The project builds from whatever index and folder its user has."""
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in _tracked()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line) or REGISTRY_HOST.search(line)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("see /" + "work/shared/notes", True),
        ('open("/' + 'home/ann/model")', True),
        ("/" + "root/.cache", True),
        ("index-url = https://pypi." + "org/simple", True),
        ("domains/work/types.py", False),
        ("$HOME/opt/x and ../opt/x", False),
    ],
)
def test_the_search_for_machines_and_registries_finds_them(line: str, expected: bool) -> None:
    """Otherwise the test above could not fail."""
    assert bool(MACHINE_PATH.search(line) or REGISTRY_HOST.search(line)) is expected


def test_no_file_is_too_long_to_read() -> None:
    """Generated code, protos and tests have other measures."""
    long = {
        name: len(text.splitlines())
        for name, text in _tracked(".py", ".cs")
        if not name.startswith(("generated/", "tests/")) and ".Tests/" not in name
    }

    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def test_every_proto_names_its_csharp_namespace() -> None:
    """It is the Python package in C# spelling, so that both clients look alike."""
    for file in _own_protos():
        words = file.package.removeprefix("deviceops.").split(".")
        expected = ".".join(["DeviceOperations", *(word.capitalize() for word in words)])
        assert file.options.csharp_namespace == expected, file.name


def test_no_field_gets_another_name_in_csharp() -> None:
    """A field like its own message, or like a member of all messages, is renamed there."""
    clashes = [
        f"{message.name}.{field.name}"
        for file in _own_protos()
        for message in _with_nested(file.message_type)
        for field in message.field
        if _pascal(field.name) in CSHARP_MEMBERS | {message.name}
    ]

    assert clashes == []


def test_no_enum_value_begins_with_a_digit_in_csharp() -> None:
    """Its prefix is stripped there; every value has one."""
    for file in _own_protos():
        for enum in file.enum_type:
            prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
            for value in enum.value:
                assert value.name.startswith(prefix), value.name
                assert not value.name.removeprefix(prefix)[0].isdigit(), value.name


def _own_protos() -> list[FileDescriptorProto]:
    files = [file for file in parse().file if file.name.startswith("deviceops/")]
    assert files
    return files


def _with_nested(messages: Iterable[DescriptorProto]) -> Iterator[DescriptorProto]:
    for message in messages:
        yield message
        yield from _with_nested(message.nested_type)


def _pascal(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
