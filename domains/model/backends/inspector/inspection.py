"""Looks at every file of a model and says what is wrong with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from io import BufferedReader

from msgspec.structs import replace

from domains.codec import one_line
from domains.errors import DomainError, FailedPrecondition, Reason
from domains.model.backends.companion_check import check_companion
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.inspector.number_types import finite
from domains.model.backends.inspector.progress import Progress
from domains.model.backends.inspector.stored import StoredTensor, numbers, read_weights
from domains.model.backends.inspector.weight_files import is_pickle, weight_files
from domains.model.jobs import MAX_FINDINGS, Finding, InspectionReport, InspectJob
from domains.model.types import weights_sha256
from domains.model.views import ValidationDepth
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted

_PIECE = 8 << 20
_NAME = 200


def inspect(job: InspectJob, context: JobContext) -> InspectionReport:
    """Check a model's files as closely as the job says; what is wrong with them is data.

    Raises:
        DomainError: The model is gone, or leads outside its root.
        OSError: The machine cannot read it at the moment.
    """
    files = ConfinedFiles(job.place)
    names = weight_files(files)
    deep = job.depth is ValidationDepth.DEEP
    full = job.depth is not ValidationDepth.HEADER
    sizes = {name: _size(files, name) for name in names}
    progress = Progress(context, sum(sizes.values()) * (2 if deep else 1))
    look = _Look(files, progress)
    context.emit(PhaseStarted(Phase.READING))
    tensors = {name: look.header(name) for name in names}
    for name, found in tensors.items():
        look.parts(name, found)
    digest = ""
    if full:
        context.emit(PhaseStarted(Phase.VERIFYING))
        hashes = {name: look.hash(name) for name in names}
        digest = weights_sha256(hashes) if all(hashes.values()) else ""
    if deep:
        for name, found in tensors.items():
            look.scan(name, found)
    if full:
        progress.end(shown(names[-1] if names else "", files))
    return InspectionReport(tuple(look.findings), look.omitted, digest)


def shown(name: str, files: ConfinedFiles) -> str:
    """What a file is called in findings and progress."""
    return one_line(name or files.place.inside.name, _NAME)


class _Look:
    """What is found while the files are gone through."""

    def __init__(self, files: ConfinedFiles, progress: Progress) -> None:
        self._files = files
        self._progress = progress
        self.findings: list[Finding] = []
        self.omitted = 0

    def header(self, name: str) -> tuple[StoredTensor, ...]:
        """The tensors of a file, each within it; none where it is damaged."""
        try:
            with self._open(name) as file:
                return read_weights(file, pickle=self._is_pickle(name)).tensors
        except FailedPrecondition as error:
            self._note(name, error)
            return ()

    def parts(self, name: str, tensors: tuple[StoredTensor, ...]) -> None:
        """Look whether what goes with a checkpoint is whole: a LoRA, an embedding."""
        for wrong in check_companion({tensor.name: tensor.shape for tensor in tensors}):
            about = {"tensor": wrong.tensor}
            error = FailedPrecondition(wrong.description, reason=wrong.reason, metadata=about)
            self._note(name, error)

    def hash(self, name: str) -> str:
        """The SHA-256 of a file's bytes; empty where it cannot be opened."""
        digest = hashlib.sha256()
        try:
            with self._open(name) as file:
                for piece in _read_all(file):
                    digest.update(piece)
                    self._progress.add(self._shown(name), len(piece))
        except FailedPrecondition as error:
            self._note(name, error)
            return ""
        return digest.hexdigest()

    def scan(self, name: str, tensors: tuple[StoredTensor, ...]) -> None:
        """Look at every number of a file."""
        try:
            with self._open(name) as file:
                for tensor in tensors:
                    self._scan(name, file, tensor)
        except FailedPrecondition as error:
            self._note(name, error)

    def _scan(self, name: str, file: BufferedReader, tensor: StoredTensor) -> None:
        for bits in numbers(file, tensor):
            self._progress.add(self._shown(name), bits.nbytes)
            if not finite(bits, tensor.data_type):
                error = FailedPrecondition(
                    "The tensor holds NaN or infinity; fetch the model again.",
                    reason=Reason.MODEL_NON_FINITE,
                    metadata={"tensor": tensor.name},
                )
                self._note(name, error)
                return

    def _open(self, name: str) -> BufferedReader:
        return BufferedReader(self._files.open(name))

    def _is_pickle(self, name: str) -> bool:
        return is_pickle(name or self._files.place.inside.name)

    def _shown(self, name: str) -> str:
        return shown(name, self._files)

    def _note(self, name: str, error: DomainError) -> None:
        if len(self.findings) >= MAX_FINDINGS:
            self.omitted += 1
            return
        about = Finding.of(error)
        self.findings.append(replace(about, component=about.component or self._shown(name)))


def _read_all(file: BufferedReader) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _size(files: ConfinedFiles, name: str) -> int:
    try:
        with files.open(name) as file:
            return os.fstat(file.fileno()).st_size
    except FailedPrecondition:
        return 0  # said when it is looked at
