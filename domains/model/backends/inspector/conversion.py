"""Writes a model anew as safetensors: a pickle, or a copy with numbers of another type; see
`layout_change` for the other layout."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from domains.codec import one_line
from domains.errors import FailedPrecondition, Reason
from domains.model.backends.component import held_config
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.file_recognition import config_beside
from domains.model.backends.inspector.layout_change import change_layout
from domains.model.backends.inspector.progress import Progress
from domains.model.backends.inspector.rearranged import ZERO_SNR
from domains.model.backends.inspector.room import check_room
from domains.model.backends.inspector.safetensors_writer import (
    Copied,
    Source,
    code_of,
    compare,
    in_file_order,
    write,
)
from domains.model.backends.inspector.stored import StoredTensor, Weights, read_weights
from domains.model.backends.inspector.weight_files import every_file, holds_tensors, is_pickle
from domains.model.backends.original_config import OriginalConfig
from domains.model.backends.recognition import Tensors
from domains.model.backends.spoken_metadata import prediction_said
from domains.model.jobs import ConversionReport, ConvertJob
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted
from domains.values import TensorDataType

# What only training uses: the averaged copy, the optimiser, the noise schedule, losses.
_PRUNED = re.compile(
    r"model_ema\.|optimizer|lr_scheduler|first_stage_model\.loss\.|loss\."
    r"|(log_|sqrt_)?(one_minus_)?(recip_|recipm1_)?alphas_cumprod(_prev)?\Z|betas\Z"
    r"|posterior_(variance|log_variance_clipped|mean_coef[12])\Z|lvlb_weights\Z|logvar\Z"
)
_VAE_FOLDER = "vae/"
_LARGEST_CONFIG = 1 << 20
_MOST_LEFT_OUT = 64
_LONGEST = 200
_VAE = ("first_stage_model.", "vae.")


@dataclass(frozen=True)
class _Plan:
    """A file of weights: its name in the model, where it goes, and what is written of it."""

    name: str
    target: Path
    tensors: list[Copied]
    pruned: int
    left_out: tuple[str, ...]
    metadata: Mapping[str, str]

    @property
    def source_bytes(self) -> int:
        """What is read of it, once."""
        return sum(tensor.source_bytes for tensor in self.tensors)


def convert(job: ConvertJob, context: JobContext) -> ConversionReport:
    """Write the model into the job's folder, and compare what was written with its source.

    Raises:
        FailedPrecondition: Any MODEL_ reason.
        ResourceExhausted: DISK_FULL, before anything is written.
        DataLoss: MODEL_CHECKSUM_MISMATCH.
        OSError: The machine cannot read or write at the moment.
    """
    job.folder.mkdir(exist_ok=True)
    if job.rearrange:
        return change_layout(job, context)
    files = ConfinedFiles(job.place)
    context.emit(PhaseStarted(Phase.READING))
    names = every_file(files) if files.has_folder() else [""]
    # Nothing of a folder that is loaded is a pickle: those beside the weights stay behind.
    pickles = [name for name in names if name and is_pickle(name)]
    weights = [name for name in names if not name or holds_tensors(name)]
    plans = [_planned(job, files, name) for name in weights]
    others = [name for name in names if name not in {*pickles, *weights}]
    check_room(job.folder, sum(copy.size_bytes for plan in plans for copy in plan.tensors))
    progress = Progress(context, 2 * sum(plan.source_bytes for plan in plans))
    context.emit(PhaseStarted(Phase.WRITING))
    for plan in plans:
        plan.target.parent.mkdir(parents=True, exist_ok=True)
        with BufferedReader(files.open(plan.name)) as file:
            write({plan.name: file}, plan.target, plan.tensors, plan.metadata, progress)
    for name in others:
        _copy(files, name, job.folder / name)
    context.emit(PhaseStarted(Phase.VERIFYING))
    for plan in plans:
        with BufferedReader(files.open(plan.name)) as file:
            compare({plan.name: file}, plan.target, plan.tensors, progress)
    progress.end(one_line(job.file_name))
    left_out = (*pickles, *(text for plan in plans for text in plan.left_out))
    return ConversionReport(
        sum(os.path.getsize(plan.target) for plan in plans),
        sum(plan.pruned for plan in plans),
        tuple(one_line(text, _LONGEST) for text in left_out[:_MOST_LEFT_OUT]),
    )


def _planned(job: ConvertJob, files: ConfinedFiles, name: str) -> _Plan:
    pickle = is_pickle(name or files.place.inside.name)
    with BufferedReader(files.open(name)) as file:
        weights = read_weights(file, pickle=pickle)
    kept = _kept(weights, prune=job.prune and not name)
    wanted = _data_type(job, files, name)
    # The copy has no configuration beside it: what that says is said in the file.
    beside = OriginalConfig() if name else config_beside(files)
    copies = [_copied(job, name, tensor, wanted) for tensor in kept]
    if beside.zero_terminal_snr and all(tensor.name != ZERO_SNR for tensor in kept):
        copies.append(Copied(ZERO_SNR, (0,), "F32", ()))
    metadata = _metadata(weights, beside)
    if not name:
        shapes = {tensor.name: tensor.shape for tensor in copies}
        types = {tensor.name: tensor.data_type for tensor in copies}
        metadata |= held_config(files, Tensors(shapes, types, metadata))
    return _Plan(
        name,
        job.folder / (name or job.file_name),
        in_file_order(copies),
        len(weights.tensors) - len(kept),
        tuple(weights.left_out),
        metadata,
    )


def _data_type(job: ConvertJob, files: ConfinedFiles, name: str) -> TensorDataType | None:
    """What a file's numbers become."""
    if not name.startswith(_VAE_FOLDER):
        return job.data_type
    if job.vae_data_type is not None:
        return job.vae_data_type
    if job.spare_vae and _overflows(files):
        return TensorDataType.FLOAT32
    return job.data_type


def _overflows(files: ConfinedFiles) -> bool:
    """Whether the folder's VAE says that 16 bits are too few for it (diffusers'
    AutoencoderKL, `force_upcast`)."""
    name = f"{_VAE_FOLDER}config.json"
    if not files.has_file(name):
        return False
    try:
        said = json.loads(files.read(name, _LARGEST_CONFIG))
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("force_upcast") is True


def _copy(files: ConfinedFiles, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.open(name) as source, open(target, "xb") as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        os.fsync(copy.fileno())


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


def _copied(
    job: ConvertJob, file: str, tensor: StoredTensor, wanted: TensorDataType | None
) -> Copied:
    if job.vae_data_type is not None and tensor.name.startswith(_VAE):
        wanted = job.vae_data_type
    data_type = code_of(tensor.data_type, wanted)
    return Copied(tensor.name, tensor.shape, data_type, (Source(file, tensor),))


def _metadata(weights: Weights, beside: OriginalConfig) -> dict[str, str]:
    """The header's own texts; libraries ask for the format, people for what is missing."""
    said = {"format": "pt", **weights.metadata}
    if beside.prediction is not None:
        said["modelspec.prediction_type"] = prediction_said(beside.prediction.value)
    if weights.left_out:
        said["left_out"] = ", ".join(weights.left_out)
    return said
