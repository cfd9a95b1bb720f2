"""The noise schedule of a single file, and what its denoiser predicts."""

from __future__ import annotations

from domains.model.backends.bounds import Config
from domains.model.backends.checkpoint_kinds.kind import CheckpointKind
from domains.model.backends.component_config import ConfigFiles, read_config
from domains.model.backends.recognition import Recognised
from domains.model.types import PredictionType

_SCHEDULER_FILE = "scheduler/scheduler_config.json"


def schedule_of(kind: CheckpointKind, found: Recognised, given: ConfigFiles | None) -> Config:
    """The configuration of a checkpoint's scheduler, not yet checked.

    A terminal signal-to-noise ratio of zero makes steps trail as well: others never reach the
    last timestep, which such a model starts from (arXiv:2305.08891).

    Args:
        kind: What kind of checkpoint it is.
        found: What it was recognised as.
        given: The folder of the configuration that it names.

    Raises:
        FailedPrecondition: As `read_config`, of the folder's configuration.
        PathOutsideRoot: That is a link that leads outside the root.
        OSError: The machine cannot read it at the moment.
    """
    config = dict(kind.scheduler)
    if given is not None and given.has_file(_SCHEDULER_FILE):
        config = read_config(given, _SCHEDULER_FILE)
    said = found.prediction or kind.prediction
    # Noise is what is left where nothing is said, and the folder may say it.
    if said is not PredictionType.EPSILON or "prediction_type" not in config:
        config["prediction_type"] = said.value
    if found.zero_terminal_snr and config.get("rescale_betas_zero_snr") is not True:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return config
