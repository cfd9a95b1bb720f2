"""What the model domain needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from domains.device.types import Device, DeviceReport
from domains.memory.types import Extent, HeldComponent, Place
from domains.model.types import FileState, Model, ModelNotes
from domains.model.views import Scan
from domains.values import ModelPlace


class ModelScanner(Protocol):
    """Looks through the configured roots."""

    def scan(self, *, full: bool = False, quiet: float = 0.0) -> Scan:
        """Every model in the roots, each with a unique id, usable or with its problem.

        Reads headers and small files only, but may take seconds: call it off the loop.
        Never raises for what it finds on disk. One call at a time.

        Args:
            full: Read the headers of unchanged files too.
            quiet: Seconds that a new or changed model's files must not have changed for:
                until then it stays as it was known, or unknown.
        """
        ...

    def again(self, model: Model) -> Model | None:
        """A model as its own files are now, and nothing else looked at; the very one where
        nothing changed, and None where only a scan can tell.

        Blocks on the disk: call it off the loop.

        Raises:
            PathOutsideRoot: A part of it has become a link that leads outside its root.
            OSError: The machine cannot read it at the moment.
        """
        ...


class FolderWatch(Protocol):
    """Tells when something happens in folders, where the system tells that."""

    def follow(
        self, folders: Mapping[Path, tuple[Path, ...]], changed: Callable[[], None]
    ) -> None:
        """Watch these folders, by root, instead of those before.

        Args:
            folders: Of each root, the folders that matter.
            changed: Called, in any thread, when something may have happened in one.
        """
        ...

    def unwatched(self) -> Mapping[Path, str]:
        """The roots of which nothing is told, and a clause that says why."""
        ...

    def close(self) -> None:
        """End watching. Blocks for a moment; calling it twice is harmless."""
        ...


class FileReading(Protocol):
    """The hash of one file in the making."""

    def read_on(self) -> bool:
        """Read the next piece, some tens of megabytes; False at the end. May block.

        Raises:
            OSError: It cannot be read at the moment.
        """
        ...

    def sha256(self) -> str:
        """Of what was read, in lower-case hexadecimal; empty where the file is no longer as it
        was when the reading began."""
        ...

    def close(self) -> None:
        """Close the file, after a piece that is being read."""
        ...


class FileHasher(Protocol):
    """Reads files of models whole."""

    def open(self, place: ModelPlace, file: FileState) -> FileReading:
        """Begin with a file of the model at `place`.

        Raises:
            DomainError: It is gone, is another one by now, or leads outside its root.
            OSError: It cannot be read at the moment.
        """
        ...


class CacheArena(Protocol):
    """A range of addresses that workers can read; memory is taken where it is written."""

    @property
    def name(self) -> str:
        """What workers open it by."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def memory(self) -> memoryview:
        """All of it."""
        ...

    def give_back(self, offset: int, length: int) -> None:
        """Return whole pages to the system."""
        ...

    def close(self) -> None:
        """Give everything back; nothing may use it any more."""
        ...


class WeightReader(Protocol):
    """Reads models' weight files. Everything blocks: call it off the loop."""

    def files(self, place: ModelPlace) -> tuple[FileState, ...]:
        """The files that hold the weights that work with the model loads.

        Raises:
            FailedPrecondition: The model cannot be used, with any MODEL_ reason.
            PathOutsideRoot: A part of it is a link that leads outside its root.
            OSError: The machine cannot read it at the moment.
        """
        ...

    def read(
        self,
        place: ModelPlace,
        files: Sequence[tuple[FileState, memoryview]],
        on_bytes: Callable[[int], None],
    ) -> None:
        """Read whole files, each to where it belongs.

        Args:
            place: The model.
            files: What to read, and where to.
            on_bytes: Called, in any thread, with the number of bytes after each read; what
                it raises ends the reading and is raised when all has stopped.

        Raises:
            FailedPrecondition: MODEL_TRUNCATED, where a file is not as it was; or as `files`.
            OSError: The machine cannot read it at the moment.
        """
        ...


class FileStates(Protocol):
    """Whether models' weight files are on disk as they were found, by their sizes and times of
    change. What cannot be told counts as unchanged: whoever needs a file finds out."""

    async def unchanged(self, place: ModelPlace, files: Collection[FileState]) -> bool:
        """Whether these files are as they were, by a look at them now."""
        ...

    async def unchanged_lately(self, place: ModelPlace, files: Collection[FileState]) -> bool:
        """As `unchanged`, or by a look of a moment ago, where there was one: for work that was
        accepted by that look and begins."""
        ...


class Devices(Protocol):
    """The machine's devices, as models see them."""

    @property
    def devices(self) -> Sequence[Device]:
        """Every device known now."""
        ...

    async def get(self, name: str) -> DeviceReport:
        """One device by id or alias.

        Raises:
            DeviceNotFound: There is none of that name.
        """
        ...

    async def default(self) -> Device:
        """The device where nothing else decides.

        Raises:
            DeviceNotFound: The configured default device is not there.
            DiscoveryIncomplete: It may still be found.
        """
        ...

    def works(self, device: Device) -> bool:
        """Whether nothing is wrong with it, or its worker is ready all the same."""
        ...

    def preparing(self, device_id: str, why: str) -> AbstractContextManager[None]:
        """Have a device that is ready count as starting meanwhile."""
        ...


class IdleModel(Protocol):
    """A model in memory that no work uses."""

    @property
    def device_id(self) -> str:
        """The device where it lies; empty for main memory's cache."""
        ...

    @property
    def model_id(self) -> str:
        """Its id."""
        ...

    @property
    def size_bytes(self) -> int:
        """What is known of its size."""
        ...


class HeldModels(Protocol):
    """The models in the devices' memory."""

    def held(self) -> tuple[HeldComponent, ...]:
        """Every component there, as of its worker's last figures; those follow every load."""
        ...

    def idle(self, device_id: str) -> Sequence[IdleModel]:
        """Models there that no work uses, the least recently used first."""
        ...


class Memory(Protocol):
    """How much memory there is."""

    async def extent(self, place: Place) -> Extent:
        """How large the memory behind a place is, and how much could be taken there now."""
        ...


@dataclass(frozen=True)
class Machine:
    """Where models can be loaded, and what lies there."""

    devices: Devices
    models: HeldModels
    memory: Memory


class NewModel(Protocol):
    """A model in the making: a hidden folder in a root, until it is published."""

    @property
    def folder(self) -> Path:
        """Where its files are written."""
        ...

    def publish(self, name: str) -> None:
        """Give what has that name in the folder, or else the folder, its place at once.

        Raises:
            NameTaken: Something of that name lies there.
            OSError: It cannot be moved.
        """
        ...

    def discard(self) -> None:
        """Remove what is left of it; never raises."""
        ...


class NewModels(Protocol):
    """Begins models in the roots. Every method blocks on the disk."""

    def begin(self, near: Path | None = None) -> NewModel:
        """Begin a model in the root `near`, or in the first that can be written; in none that
        is a model itself.

        Raises:
            NoWritableRoot: There is none.
            OSError: The folder cannot be made.
        """
        ...


class ImportDisk(Protocol):
    """What an import does on the disk. Every method blocks on it but `id_of`."""

    def id_of(self, name: str) -> str:
        """The id of a model that is called so, where it is the only one."""
        ...

    def free_bytes(self, folder: Path) -> int:
        """What is free there, as far as this user may fill it."""
        ...

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those it lies in; one that is there is fine."""
        ...

    def create(self, path: Path) -> BinaryIO:
        """An empty file of that name, which is not there yet."""
        ...

    def open_up(self, path: Path) -> None:
        """Have a file that came from elsewhere as open to others as its folder is."""
        ...

    def settle(self, file: BinaryIO) -> None:
        """Have a file's bytes on the disk."""
        ...

    def sync(self, folder: Path) -> None:
        """Have the names in a folder and below on the disk."""
        ...

    def look(self, folder: Path) -> Scan:
        """What the catalogue would list if this folder were a root."""
        ...


class NoteKeeper(Protocol):
    """Keeps what clients say of models, beside them."""

    def read(self, entry: ModelPlace) -> ModelNotes:
        """What was said of the model whose name lies at `entry`. May block.

        Raises:
            OSError: It cannot be read at the moment.
        """
        ...

    def write(self, entry: ModelPlace, notes: ModelNotes) -> None:
        """Keep this instead, whole or not at all. May block.

        Raises:
            ReadOnlyModel: Nothing may be written there.
            OSError: It cannot be written for another reason.
        """
        ...


class ModelRemover(Protocol):
    """Deletes models from disk."""

    def remove(self, entry: ModelPlace) -> int:
        """Delete the model whose name lies at `entry`, and what is kept of it beside; a link
        alone where that is one. May block.

        Wherever it ends, there is the whole model or none.

        Returns:
            Bytes that are free now.

        Raises:
            ReadOnlyModel: Nothing may be deleted there.
            OSError: It cannot be deleted for another reason.
        """
        ...

    def sweep(self, folders: Iterable[Path]) -> None:
        """Delete what removals left in these folders that were broken off. May block."""
        ...
