"""Writes a model anew as safetensors: a pickle, or a copy with numbers of another type."""

from __future__ import annotations

import os
import re
import shutil
from io import BufferedReader
from pathlib import Path

from domains.codec import one_line
from domains.errors import FailedPrecondition, Reason, ResourceExhausted
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.inspector.progress import Progress
from domains.model.backends.inspector.safetensors_writer import (
    Copied,
    code_of,
    compare,
    in_file_order,
    write,
)
from domains.model.backends.inspector.stored import StoredTensor, Weights, read_weights
from domains.model.backends.inspector.weight_files import is_pickle
from domains.model.jobs import ConversionReport, ConvertJob
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted

# Room that is left for the journal, logs and other programs.
_LEAST_FREE_BYTES = 1 << 28
# What only training uses: the averaged copy, the optimiser, the noise schedule, losses.
_PRUNED = re.compile(
    r"model_ema\.|optimizer|lr_scheduler|first_stage_model\.loss\.|loss\."
    r"|(log_|sqrt_)?(one_minus_)?(recip_|recipm1_)?alphas_cumprod(_prev)?\Z|betas\Z"
    r"|posterior_(variance|log_variance_clipped|mean_coef[12])\Z|lvlb_weights\Z|logvar\Z"
)
_VAE = ("first_stage_model.", "vae.")


def convert(job: ConvertJob, context: JobContext) -> ConversionReport:
    """Write the model into the job's folder, and compare what was written with its source.

    Raises:
        FailedPrecondition: Any MODEL_ reason.
        ResourceExhausted: DISK_FULL, before anything is written.
        DataLoss: MODEL_CHECKSUM_MISMATCH.
        OSError: The machine cannot read or write at the moment.
    """
    files = ConfinedFiles(job.place)
    if files.has_folder():
        raise FailedPrecondition(
            "A folder cannot be converted by this version; name a model of one file.",
            reason=Reason.MODEL_FORMAT_UNSUPPORTED,
        )
    context.emit(PhaseStarted(Phase.READING))
    name = files.place.inside.name
    target = job.folder / job.file_name
    with BufferedReader(files.open()) as file:
        weights = read_weights(file, pickle=is_pickle(name))
        kept = _kept(weights, prune=job.prune)
        copies = in_file_order([_copied(job, tensor) for tensor in kept])
        check_room(job.folder, sum(copy.size_bytes for copy in copies))
        progress = Progress(context, 2 * sum(tensor.size_bytes for tensor in kept))
        context.emit(PhaseStarted(Phase.WRITING))
        write(file, target, copies, _metadata(weights), progress)
        context.emit(PhaseStarted(Phase.VERIFYING))
        compare(file, target, copies, progress)
        progress.end(one_line(job.file_name))
    return ConversionReport(
        os.path.getsize(target), len(weights.tensors) - len(kept), weights.left_out
    )


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        ResourceExhausted: DISK_FULL.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _LEAST_FREE_BYTES:
        raise ResourceExhausted(
            f"The result needs {needed} bytes and the disk has {free}; free some space, or "
            "choose a smaller data type.",
            reason=Reason.DISK_FULL,
            metadata={"needed_bytes": str(needed), "free_bytes": str(free)},
        )


def _kept(weights: Weights, *, prune: bool) -> list[StoredTensor]:
    if not prune:
        return list(weights.tensors)
    kept = [tensor for tensor in weights.tensors if not _PRUNED.match(tensor.name)]
    if not kept:
        raise FailedPrecondition(
            "Nothing of the file is used to draw; leave prune out.",
            reason=Reason.MODEL_INCOMPLETE,
        )
    return kept


def _copied(job: ConvertJob, tensor: StoredTensor) -> Copied:
    of_vae = tensor.name.startswith(_VAE)
    wanted = job.vae_data_type if of_vae and job.vae_data_type else job.data_type
    return Copied(tensor.name, tensor, code_of(tensor.data_type, wanted))


def _metadata(weights: Weights) -> dict[str, str]:
    """The header's own texts; libraries ask for the format, people for what is missing."""
    said = {"format": "pt", **weights.metadata}
    if weights.left_out:
        said["left_out"] = ", ".join(weights.left_out)
    return said
