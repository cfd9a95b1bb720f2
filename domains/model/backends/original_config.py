"""The configuration that lies beside an original checkpoint (`model.yaml`): what it predicts.

Of YAML this reads single lines `key: value` and nothing else, so that nothing can be made of it
but words. Source: the `configs/` of Stability-AI/stablediffusion and generative-models.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from domains.model.types import PredictionType

MAX_CONFIG_BYTES = 1 << 16
ENDINGS = (".yaml", ".yml")
_LINE = re.compile(r"^[ \t-]*([a-z_]+)[ \t]*:[ \t]*[\"']?([\w.]+)[\"']?[ \t]*(?:#.*)?$", re.M)
_PARAMETERIZATIONS = {
    "eps": PredictionType.EPSILON,
    "v": PredictionType.V_PREDICTION,
    "x0": PredictionType.SAMPLE,
}
_SCALINGS = {
    "EpsScaling": PredictionType.EPSILON,
    "VScaling": PredictionType.V_PREDICTION,
}
_ZERO_SNR = frozenset({"rescale_betas_zero_snr", "zero_terminal_snr", "ztsnr"})


class OriginalConfig(NamedTuple):
    """What a configuration says; None and False where it says nothing."""

    prediction: PredictionType | None = None
    zero_terminal_snr: bool = False


def read_original_config(content: bytes) -> OriginalConfig:
    """Read a configuration; what is none says nothing."""
    prediction, zero_snr = None, False
    for key, value in _LINE.findall(content[:MAX_CONFIG_BYTES].decode("utf-8", "replace")):
        if key == "parameterization":
            prediction = _PARAMETERIZATIONS.get(value, prediction)
        elif key == "target":
            prediction = _SCALINGS.get(value.rpartition(".")[2], prediction)
        elif key in _ZERO_SNR:
            zero_snr = zero_snr or value.lower() == "true"
    return OriginalConfig(prediction, zero_snr)
