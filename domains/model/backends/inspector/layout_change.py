"""Writes a checkpoint in the other layout: one file as a folder, or a folder as one file.

What is read is a plan, and what was written is read as a plan again: both must have the same
tensors with the same numbers, whatever these are called on disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path

import numpy as np

from domains.codec import one_line
from domains.errors import FailedPrecondition, Reason
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.inspector.number_types import Array
from domains.model.backends.inspector.progress import Progress
from domains.model.backends.inspector.rearranged import (
    Rearranged,
    as_file,
    as_folder,
    copied,
)
from domains.model.backends.inspector.room import check_room
from domains.model.backends.inspector.safetensors_writer import (
    Copied,
    Sources,
    differs,
    in_file_order,
    pieces,
    write,
)
from domains.model.backends.model_plan import ModelPlan
from domains.model.backends.plans import plan_model
from domains.model.jobs import ConversionReport, ConvertJob
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted
from domains.values import ModelPlace

_LONGEST = 200


def change_layout(job: ConvertJob, context: JobContext) -> ConversionReport:
    """Write the model into the job's folder, and compare what was written with its source.

    Raises:
        FailedPrecondition: What `plan_model` raises; MODEL_INCOMPLETE for a checkpoint without
            a VAE; MODEL_DTYPE_UNSUPPORTED where a data type
            has to be named; MODEL_NON_FINITE.
        ResourceExhausted: DISK_FULL, before anything is written.
        DataLoss: MODEL_CHECKSUM_MISMATCH.
        OSError: The machine cannot read or write at the moment.
    """
    files = ConfinedFiles(job.place)
    context.emit(PhaseStarted(Phase.READING))
    plan = plan_model(files)
    if plan.borrowed:
        raise FailedPrecondition(
            "The model has no VAE; only whole models are written in the other layout.",
            reason=Reason.MODEL_INCOMPLETE,
            metadata={"component": plan.borrowed[0]},
        )
    to_folder = files.has_file("")
    result = (
        as_folder(plan, job.data_type)
        if to_folder
        else as_file(plan, job.file_name, job.data_type)
    )
    tensors = [tensor for each in result.weights.values() for tensor in each]
    check_room(job.folder, sum(tensor.size_bytes for tensor in tensors))
    expected = list(_expected(plan, job))
    total = sum(tensor.source_bytes for tensor in (*tensors, *(one for _, _, one in expected)))
    progress = Progress(context, total)
    context.emit(PhaseStarted(Phase.WRITING))
    with ExitStack() as stack:
        sources = _opened(plan, stack)
        _write(job.folder, result, sources, progress)
        context.emit(PhaseStarted(Phase.VERIFYING))
        place = ModelPlace(job.folder, Path("." if to_folder else job.file_name))
        written = plan_model(ConfinedFiles(place))
        _compare(expected, sources, written, _opened(written, stack), progress)
    progress.end(one_line(job.file_name))
    return ConversionReport(
        sum(os.path.getsize(job.folder / name) for name in result.weights),
        _unused(plan),
        (),
    )


def _opened(plan: ModelPlan, stack: ExitStack) -> Sources:
    """Every file that a plan's tensors come from."""
    found = {file.name: file for network in plan.networks for file in network.files}
    return {
        name: stack.enter_context(BufferedReader(file.open())) for name, file in found.items()
    }


def _write(folder: Path, result: Rearranged, sources: Sources, progress: Progress) -> None:
    for name, tensors in result.weights.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write(sources, target, in_file_order(tensors), result.metadata, progress)
    for name, text in result.texts.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())


def _expected(plan: ModelPlan, job: ConvertJob) -> Iterator[tuple[str, str, Copied]]:
    """Network, name and numbers of every tensor that the result must have."""
    for network in plan.networks:
        for name, origin in network.tensors.items():
            yield network.name, name, copied(name, origin.shape, (origin,), job.data_type)


def _compare(
    expected: list[tuple[str, str, Copied]],
    sources: Sources,
    written: ModelPlan,
    results: Sources,
    progress: Progress,
) -> None:
    """Compare every tensor of two plans.

    Raises:
        DataLoss: MODEL_CHECKSUM_MISMATCH.
    """
    found = {network.name: network.tensors for network in written.networks}
    for component, name, wanted in expected:
        origin = found[component].get(name)
        if origin is None or (origin.shape, origin.stored.data_type) != (
            wanted.shape,
            wanted.data_type,
        ):
            raise differs(f"{component}.{name}")
        own = copied(name, origin.shape, (origin,), None)
        read = _Numbers(piece for piece, _ in pieces(results, own))
        for piece, size in pieces(sources, wanted):
            if not np.array_equal(read.take(piece.size), piece):
                raise differs(f"{component}.{name}")
            progress.add(component, size)
    if len(expected) != sum(map(len, found.values())):
        raise differs("of another name")


class _Numbers:
    """Numbers that come in pieces of any length.

    Args:
        pieces: Them.
    """

    def __init__(self, pieces: Iterator[Array]) -> None:
        self._pieces = pieces
        self._left: Array = np.empty(0, np.uint8)

    def take(self, count: int) -> Array:
        """The next `count`, or fewer at the end."""
        taken: list[Array] = []
        while count:
            if not self._left.size:
                self._left = next(self._pieces, self._left)
                if not self._left.size:
                    break
            taken.append(self._left[:count])
            self._left = self._left[count:]
            count -= taken[-1].size
        return np.concatenate(taken) if taken else self._left


def _unused(plan: ModelPlan) -> int:
    """How many tensors of a model's files the result does not have."""
    used = {
        (file.name, entry.name)
        for n in plan.networks
        for file in n.files
        for entry in n.entries(file).values()
    }
    stored = {
        (f.name, t.name) for n in plan.networks for f in n.files for t in f.header.tensors
    }
    return len(stored - used)
