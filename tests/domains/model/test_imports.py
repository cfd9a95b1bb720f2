"""Artifacts that become models: whole and looked at, or not there at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domains.artifact.backends.folder import ArtifactFolder
from domains.artifact.core import ArtifactStore
from domains.clients import Caller, Role
from domains.clock import Clock
from domains.errors import DomainError, Reason
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.import_disk import LocalDisk
from domains.model.backends.new_models import NewModels
from domains.model.core import Imports, ModelCatalogue
from domains.model.types import ImportedFile, ImportRequest, Model, ModelFormat
from domains.session.core.sessions import Sessions
from domains.session.types import TransferProgress, WorkOptions
from server.errors import describe_failure
from tests.domains.model.disk import DEMO, write_safetensors
from tests.domains.sessions import changes_of, follow, report_of
from tests.fakes.model import contents_of

ANN, BOB = Caller("ann", Role.RUN), Caller("bob", Role.RUN)
LORA = {
    "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 64),
    "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (64, 4),
}


@dataclass
class System:
    """The import over real folders."""

    root: Path
    artifacts: ArtifactStore
    sessions: Sessions
    imports: Imports
    catalogue: ModelCatalogue
    made: Path

    async def keep(self, content: bytes, owner: str = "ann") -> str:
        """An artifact of these bytes."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.made / f"{sha256}.upload"
        await asyncio.to_thread(path.write_bytes, content)
        path.chmod(0o600)  # as all that is uploaded or drawn
        return (await self.artifacts.adopt(path, sha256, owner)).artifact_id

    async def folder(self, source: Path) -> tuple[ImportedFile, ...]:
        """A whole folder as artifacts."""
        return tuple(
            [ImportedFile(name, await self.keep(data)) for name, data in content(source)]
        )

    def request(
        self, *files: ImportedFile, model_id: str = "new", **values: Any
    ) -> ImportRequest:
        defaults: dict[str, Any] = {
            "format": ModelFormat.SAFETENSORS,
            "options": WorkOptions(),
            "digest": b"",
        }
        return ImportRequest(model_id, files=files, **(defaults | values))

    async def run(self, request: ImportRequest) -> Model:
        report = await report_of(self.sessions, self.imports.import_model(ANN, request))
        assert isinstance(report, Model)
        return report

    async def refused(self, request: ImportRequest) -> DomainError:
        """How it is refused, which leaves nothing."""
        before = sorted(self.root.rglob("*"))
        with pytest.raises(DomainError) as caught:
            await self.run(request)
        assert sorted(self.root.rglob("*")) == before
        return caught.value


def content(folder: Path) -> list[tuple[str, bytes]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in found]


@pytest.fixture
async def sessions() -> AsyncIterator[Sessions]:
    made = Sessions(
        describe=describe_failure,
        queue_length=8,
        slice_seconds=30.0,
        retention=timedelta(hours=1),
        kept=100,
        clock=Clock(),
        changes=changes_of(Clock()),
    )
    yield made
    await made.stop(0)


@pytest.fixture
async def system(tmp_path: Path, sessions: Sessions) -> System:
    root, made = tmp_path / "root", tmp_path / "made"
    for folder in (root, made):
        folder.mkdir()
    artifacts = ArtifactStore(
        ArtifactFolder(tmp_path / "artifacts"),
        quota_bytes=1 << 30,
        retention=timedelta(days=1),
        now=lambda: datetime.now(UTC),
    )
    await artifacts.start()
    contents = contents_of(DiskScanner([root]), clock=lambda: datetime.now(UTC))
    catalogue = ModelCatalogue(contents, clock=lambda: datetime.now(UTC))
    imports = Imports(catalogue, artifacts, NewModels([root]), LocalDisk(), pickles=True)
    return System(root, artifacts, sessions, imports, catalogue, made)


@pytest.fixture
def lora(tmp_path: Path) -> bytes:
    return write_safetensors(tmp_path / "lora.safetensors", LORA).read_bytes()


async def test_a_file_becomes_a_model_and_stays_the_callers(
    system: System, lora: bytes
) -> None:
    artifact_id = await system.keep(lora)
    told = [
        event.event
        async for event in follow(
            system.sessions,
            system.imports.import_model(
                ANN, system.request(ImportedFile("Ink.SafeTensors", artifact_id))
            ),
        )
    ]
    model = await system.catalogue.get("new")

    assert [p.name for p in system.root.iterdir()] == ["new.safetensors"]
    assert (system.root / "new.safetensors").read_bytes() == lora
    assert model.size_bytes == len(lora)
    moved = [event for event in told if isinstance(event, TransferProgress)]
    assert moved[-1].done_bytes == moved[-1].total_bytes == len(lora)
    assert system.artifacts.get(ANN, artifact_id).size_bytes == len(lora)
    await system.artifacts.delete(ANN, artifact_id)
    assert (system.root / "new.safetensors").read_bytes() == lora


@pytest.mark.parametrize("links", [True, False])
async def test_a_folder_becomes_a_usable_model(
    system: System, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:  # as where artifacts and models are on two disks

        def refuse(*_: object, **__: object) -> None:
            raise OSError("another disk")

        monkeypatch.setattr(os, "link", refuse)
    files = await system.folder(DEMO)
    model = await system.run(
        system.request(*files, model_id="brought", format=ModelFormat.DIFFUSERS_FOLDER)
    )

    assert model.problem is None
    for file in files:
        ours, theirs = system.root / "brought" / file.relative_path, DEMO / file.relative_path
        assert ours.read_bytes() == theirs.read_bytes()
        assert (ours.stat().st_nlink > 1) is links
        if os.name == "posix":  # whoever may read the models may read these
            assert ours.stat().st_mode & 0o777 == ours.parent.stat().st_mode & 0o666


async def test_a_network_with_its_configuration_is_named_by_its_folder(
    system: System, lora: bytes
) -> None:
    files = [
        ImportedFile("config.json", await system.keep(b"{}")),
        ImportedFile("diffusion_pytorch_model.safetensors", await system.keep(lora)),
    ]
    model = await system.run(system.request(*files, model_id="canny"))

    assert model.model_id == "canny"
    assert sorted(p.name for p in (system.root / "canny").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]


@pytest.mark.parametrize(
    "path",
    [
        *("../x.safetensors", "/x.safetensors", "a/../x.safetensors", "a//x.safetensors"),
        *("./x.safetensors", ".hidden/x.safetensors", "a\\x.safetensors", "c:x.safetensors"),
        *("con.safetensors", "a/nul/x.safetensors", "x.safetensors.", "x.safetensors "),
        *("a\nb.safetensors", "\u202ex.safetensors", "x" * 257, "a/" * 8 + "x", "é" * 200),
    ],
)
async def test_a_path_that_is_none_is_named_and_costs_nothing(
    system: System, lora: bytes, path: str
) -> None:
    file = ImportedFile(path, await system.keep(lora))
    error = await system.refused(system.request(file))
    assert [violation.field for violation in error.violations] == ["files[0].relative_path"]


@pytest.mark.parametrize(
    ("paths", "format", "field", "reason"),
    [
        ([], ModelFormat.SAFETENSORS, "files", Reason.REQUIRED_FIELD_MISSING),
        (["x.safetensors"], None, "format", Reason.REQUIRED_FIELD_MISSING),
        (["x.gguf"], ModelFormat.GGUF, "format", Reason.ENUM_VALUE_UNKNOWN),
        (["x.onnx"], ModelFormat.ONNX, "format", Reason.ENUM_VALUE_UNKNOWN),
        (["x.ckpt"], ModelFormat.SAFETENSORS, "files", Reason.FIELDS_CONFLICT),
        (["x.safetensors"], ModelFormat.PICKLE, "files", Reason.FIELDS_CONFLICT),
        (["x.safetensors"], ModelFormat.DIFFUSERS_FOLDER, "files", Reason.FIELDS_CONFLICT),
        (
            ["x.safetensors", "y.safetensors"],
            ModelFormat.SAFETENSORS,
            "files",
            Reason.FIELDS_CONFLICT,
        ),
        (
            ["x.safetensors", "config.json"],
            ModelFormat.SAFETENSORS,
            "files",
            Reason.FIELDS_CONFLICT,
        ),
        (
            ["model_index.json", "unet/a.json", "UNET/A.json"],
            ModelFormat.DIFFUSERS_FOLDER,
            "files[2].relative_path",
            Reason.NAME_INVALID,
        ),
        (
            ["model_index.json", "unet", "unet/a.json"],
            ModelFormat.DIFFUSERS_FOLDER,
            "files[1].relative_path",
            Reason.NAME_INVALID,
        ),
        (
            [f"{n}.safetensors" for n in range(257)],
            ModelFormat.SAFETENSORS,
            "files",
            Reason.TOO_MANY_ELEMENTS,
        ),
    ],
)
async def test_files_that_are_no_model_together_are_refused(
    system: System,
    lora: bytes,
    paths: list[str],
    format: ModelFormat | None,
    field: str,
    reason: Reason,
) -> None:
    artifact_id = await system.keep(lora)
    files = [ImportedFile(path, artifact_id) for path in paths]
    error = await system.refused(system.request(*files, format=format))
    assert [(v.field, v.reason) for v in error.violations] == [(field, reason)]


@pytest.mark.parametrize(
    ("model_id", "reason"),
    [
        ("", Reason.REQUIRED_FIELD_MISSING),
        ("../new", Reason.NAME_INVALID),
        ("con", Reason.NAME_INVALID),
        ("x" * 120, Reason.NAME_INVALID),  # ids of files are shorter
        ("new-", Reason.NAME_INVALID),  # a file of that name is called otherwise
    ],
)
async def test_an_id_that_no_file_can_have_is_refused(
    system: System, lora: bytes, model_id: str, reason: Reason
) -> None:
    file = ImportedFile("x.safetensors", await system.keep(lora))
    error = await system.refused(system.request(file, model_id=model_id))
    assert [(v.field, v.reason) for v in error.violations] == [("model_id", reason)]


@pytest.mark.parametrize(
    "there", ["new.safetensors", "NEW.safetensors", "deep/new.safetensors"]
)
async def test_a_name_that_is_taken_stays_the_others(
    system: System, lora: bytes, there: str
) -> None:
    write_safetensors(system.root / there, {"other": (1,)})
    before = (system.root / there).read_bytes()
    file = ImportedFile("x.safetensors", await system.keep(lora))
    error = await system.refused(system.request(file))
    assert error.reason is Reason.NAME_TAKEN
    assert (system.root / there).read_bytes() == before != lora


async def test_what_lies_there_and_is_no_model_is_never_replaced(
    system: System, lora: bytes
) -> None:
    (system.root / "new.safetensors").mkdir()
    file = ImportedFile("x.safetensors", await system.keep(lora))
    error = await system.refused(system.request(file))
    assert error.reason is Reason.NAME_TAKEN
    assert (system.root / "new.safetensors").is_dir()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html>" + b" " * 100, Reason.MODEL_FORMAT_UNSUPPORTED),
        (b"\x08\0\0\0\0\0\0\0{}", Reason.MODEL_TRUNCATED),
        (b"\xff" * 64, Reason.MODEL_HEADER_TOO_LARGE),
    ],
)
async def test_a_damaged_file_never_appears(
    system: System, content: bytes, reason: Reason
) -> None:
    file = ImportedFile("x.safetensors", await system.keep(content))
    error = await system.refused(system.request(file))
    assert error.reason is reason
    assert (await system.catalogue.refresh()).total_count == 0


async def test_a_folder_that_lacks_a_part_never_appears(system: System, tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path / "part", ignore=shutil.ignore_patterns("vae"))
    files = await system.folder(tmp_path / "part")
    error = await system.refused(system.request(*files, format=ModelFormat.DIFFUSERS_FOLDER))
    assert error.reason is Reason.MODEL_INCOMPLETE


async def test_pickles_come_only_where_they_are_allowed(system: System) -> None:
    pickle = ImportedFile("old.ckpt", await system.keep(b"PK\x03\x04" + bytes(64)))
    request = system.request(pickle, format=ModelFormat.PICKLE)
    model = await system.run(request)
    assert model.problem is not None
    assert model.problem.reason is Reason.MODEL_UNSAFE_PICKLE

    system.imports._pickles = False
    error = await system.refused(
        system.request(pickle, model_id="other", format=ModelFormat.PICKLE)
    )
    assert error.reason is Reason.MODEL_UNSAFE_PICKLE


async def test_what_belongs_to_somebody_else_is_not_there(system: System, lora: bytes) -> None:
    file = ImportedFile("x.safetensors", await system.keep(lora, owner="bob"))
    assert (await system.refused(system.request(file))).reason is Reason.ARTIFACT_NOT_FOUND


async def test_without_a_root_that_can_be_written_it_says_so(
    system: System, lora: bytes, tmp_path: Path
) -> None:
    system.imports._new_models = NewModels([tmp_path / "gone"])
    file = ImportedFile("x.safetensors", await system.keep(lora))
    assert (await system.refused(system.request(file))).reason is Reason.PATH_OUTSIDE_ROOT


async def test_a_model_that_does_not_fit_is_refused_before_it_is_copied(
    system: System, lora: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def another_disk(*_: object) -> bool:
        return False

    monkeypatch.setattr(system.artifacts, "link", another_disk)
    monkeypatch.setattr(LocalDisk, "free_bytes", lambda *_: len(lora) - 1)
    monkeypatch.setattr(LocalDisk, "create", lambda *_: 1 / 0)
    file = ImportedFile("x.safetensors", await system.keep(lora))
    error = await system.refused(system.request(file))
    assert error.reason is Reason.DISK_FULL
    assert error.metadata == {
        "needed_bytes": str(len(lora)),
        "free_bytes": str(len(lora) - 1),
    }


async def test_a_disk_that_is_full_within_the_last_chunk_is_told(
    system: System, lora: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def another_disk(*_: object) -> bool:
        return False

    monkeypatch.setattr(system.artifacts, "link", another_disk)
    file = ImportedFile("x.safetensors", await system.keep(lora))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(lora) - 1, limits[1]))
    try:
        error = await system.refused(system.request(file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.reason is Reason.DISK_FULL


async def test_an_import_that_is_cancelled_leaves_nothing(
    system: System, lora: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying = asyncio.Event()

    async def endless(*_: object, **__: object) -> AsyncIterator[bytes]:
        copying.set()
        yield b"x"
        await asyncio.Event().wait()

    async def another_disk(*_: object) -> bool:
        return False

    monkeypatch.setattr(system.artifacts, "link", another_disk)
    monkeypatch.setattr(system.artifacts, "read", endless)
    file = ImportedFile("x.safetensors", await system.keep(lora))
    running = asyncio.ensure_future(system.refused(system.request(file)))
    await copying.wait()
    (session,) = system.sessions.all()
    session.request_cancel(Reason.CANCELLED_BY_CLIENT)
    assert (await running).reason is Reason.CANCELLED_BY_CLIENT


async def test_a_damaged_artifact_is_told(system: System, lora: bytes, tmp_path: Path) -> None:
    artifact_id = await system.keep(lora)
    (tmp_path / "artifacts" / artifact_id).write_bytes(b"x" * len(lora))
    error = await system.refused(system.request(ImportedFile("x.safetensors", artifact_id)))
    assert error.reason is Reason.DATA_CORRUPTED
