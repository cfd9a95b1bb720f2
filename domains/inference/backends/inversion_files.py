"""Textual inversions from their files, held against a model's text encoders."""

from __future__ import annotations

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.inversions import Inversion
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.tensor_reading import UnreadableTensor, read_tensor
from domains.inference.jobs import Companion
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.embedding_file import parse_embedding
from domains.model.backends.lora.file import Finding
from domains.model.backends.safetensors_header import read_header


def read_inversion(companion: Companion, model: LoadedModel) -> Inversion:
    """Read a textual inversion and hold it against a model's text encoders.

    Raises:
        FailedPrecondition: As `read_header`; MODEL_INCOMPLETE, MODEL_SHAPE_INVALID or
            MODEL_INCOMPATIBLE for what is in it, and where it does not fit the encoders.
    """
    files = ConfinedFiles(companion.place)
    fingerprint = files.states(("",))
    parsed = parse_embedding(read_header(files))
    if parsed.findings:
        raise _refused(companion, model, parsed.findings[0])
    rows = {}
    with files.open() as file:
        for encoder, entry in parsed.rows.items():
            try:
                tensor = read_tensor(file, entry, model.device)
            except UnreadableTensor as error:
                raise _refused(companion, model, error.finding) from error
            if tensor.dim() > 2:
                what = f"{entry.name!r} is no list of vectors."
                finding = Finding(Reason.MODEL_SHAPE_INVALID, entry.name, what)
                raise _refused(companion, model, finding)
            rows[encoder] = tensor.reshape(-1, tensor.shape[-1])
    inversion = Inversion(companion, fingerprint, rows)
    _check_fit(inversion, model)
    return inversion


def _check_fit(inversion: Inversion, model: LoadedModel) -> None:
    for tokenizer in model.tokenizers.values():
        name = tokenizer.plan.encoder
        width = model.plan_config(name)["hidden_size"]
        rows = inversion.rows.get(name)
        if rows is None:
            what = f"It has no vectors for {name} of {model.model_id}."
        elif rows.shape[-1] != width:
            what = (
                f"Its vectors have {rows.shape[-1]} numbers, and {name} of {model.model_id} "
                f"has {width}."
            )
        elif inversion.count > tokenizer.room:
            what = (
                f"It has {inversion.count} vectors, and {name} reads {tokenizer.room} at once."
            )
        else:
            continue
        finding = Finding(Reason.MODEL_INCOMPATIBLE, name, what)
        raise _refused(inversion.companion, model, finding)


def _refused(companion: Companion, model: LoadedModel, finding: Finding) -> FailedPrecondition:
    return FailedPrecondition(
        f"Embedding {companion.model_id} cannot be used with {model.model_id}: "
        f"{finding.description} Leave it out, or choose another.",
        reason=finding.reason,
        metadata={
            "model_id": companion.model_id,
            "tensor": finding.tensor,
            "field": "settings.embedding_model_ids",
        },
    )
