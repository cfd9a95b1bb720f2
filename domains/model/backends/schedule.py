"""The noise schedule of a single file, and what its denoiser predicts.

No shape tells. Files say it by their metadata, by tensors without elements that stand for a
word, or by the original code's configuration that lies beside them.
"""

from __future__ import annotations

import re

from domains.errors import FailedPrecondition
from domains.model.backends.bounds import Config
from domains.model.backends.checkpoint_kinds import CheckpointKind
from domains.model.backends.companion import beside
from domains.model.backends.component_config import read_config
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.safetensors_header import Header
from domains.model.types import PredictionType

_SCHEDULER_FILE = "scheduler/scheduler_config.json"
_PREDICTIONS = {
    "epsilon": PredictionType.EPSILON,
    "eps": PredictionType.EPSILON,
    "v": PredictionType.V_PREDICTION,
    "v_prediction": PredictionType.V_PREDICTION,
    "sample": PredictionType.SAMPLE,
}
_MAX_YAML_BYTES = 64 << 10
_PARAMETERIZATION = re.compile(
    rb"^[ \t]*parameterization[ \t]*:[ \t]*[\"']?(\w+)[\"']?[ \t]*(?:#.*)?\r?$", re.MULTILINE
)
_V_MARK, _ZERO_SNR_MARK = "v_pred", "ztsnr"


def schedule_of(
    kind: CheckpointKind, files: ConfinedFiles, header: Header, given: ConfinedFiles | None
) -> Config:
    """The configuration of a checkpoint's scheduler, not yet checked.

    A marker for a terminal signal-to-noise ratio of zero makes steps trail as well: others
    never reach the last timestep, which such a model starts from (arXiv:2305.08891).

    Args:
        kind: What kind of checkpoint it is.
        files: The model that is one file.
        header: Its header.
        given: The folder of the configuration that it names.

    Raises:
        FailedPrecondition: As `read_config`, of the folder's configuration.
        PathOutsideRoot: A file beside it is a link that leads outside the root.
        OSError: The machine cannot read one at the moment.
    """
    config = dict(kind.scheduler)
    if given is not None and given.has_file(_SCHEDULER_FILE):
        config = read_config(given, _SCHEDULER_FILE)
    names = {tensor.name for tensor in header.tensors}
    said = _said(files, header, names)
    if said is not None or "prediction_type" not in config:
        config["prediction_type"] = (said or kind.prediction).value
    if _ZERO_SNR_MARK in names:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return config


def _said(files: ConfinedFiles, header: Header, names: set[str]) -> PredictionType | None:
    """What the file says of its denoiser; None where it says nothing."""
    if _V_MARK in names:
        return PredictionType.V_PREDICTION
    said = _PREDICTIONS.get(header.metadata.get("modelspec.prediction_type", ""))
    return said or _PREDICTIONS.get(_parameterization(files))


def _parameterization(files: ConfinedFiles) -> str:
    """The word in the original configuration beside the file, which bears its name."""
    name = files.place.inside.with_suffix(".yaml").name
    around = beside(files)
    if not around.has_file(name):
        return ""
    try:
        found = _PARAMETERIZATION.search(around.read(name, _MAX_YAML_BYTES))
    except FailedPrecondition:
        return ""
    return found[1].decode() if found else ""
