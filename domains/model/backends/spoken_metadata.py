"""What trainers write into a header's metadata about a file; sane whatever stands there.

Sources: the model metadata standard (modelspec), kohya-ss/sd-scripts (`ss_...`), diffusers
(`lora_adapter_metadata`).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from domains.model.backends.families.registry import FAMILIES
from domains.model.backends.model_card import tags
from domains.model.types import Architecture, PredictionType

_MAX_JSON = 1 << 20
_MAX_WORDS = 16
_MAX_ALPHA = 1_000_000
_PREDICTIONS = {
    "epsilon": PredictionType.EPSILON,
    "v": PredictionType.V_PREDICTION,
    "v_prediction": PredictionType.V_PREDICTION,
    "sample": PredictionType.SAMPLE,
}
_RESOLUTION = re.compile(r"(\d{2,5})x(\d{2,5})")

Metadata = Mapping[str, str]


def architecture(metadata: Metadata) -> Architecture | None:
    """What a file says of itself."""
    # What stands after a slash is the kind.
    said = metadata.get("modelspec.architecture", "").partition("/")[0]
    for family in FAMILIES:
        if said in family.standard_names:
            return family.architecture
    base = metadata.get("ss_base_model_version", "")
    trained = (f for f in FAMILIES if base.startswith(f.trainer_names))
    return next((family.architecture for family in trained), None)


def prediction(metadata: Metadata) -> PredictionType | None:
    """What a file says that it predicts."""
    if metadata.get("modelspec.architecture", "").startswith("stable-diffusion-v2-768-v"):
        return PredictionType.V_PREDICTION
    return _PREDICTIONS.get(metadata.get("modelspec.prediction_type", ""))


def prediction_said(prediction: str) -> str:
    """What the metadata standard calls what a scheduler's configuration calls so."""
    return "v" if prediction == PredictionType.V_PREDICTION.value else prediction


def resolution(metadata: Metadata) -> tuple[int, int]:
    """Width and height in pixels that it was trained for; zeros where it does not say."""
    match = _RESOLUTION.fullmatch(metadata.get("modelspec.resolution", ""))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def alpha(metadata: Metadata) -> float:
    """A LoRA's alpha; 0 where it does not say, or says none that could be."""
    said = metadata.get("ss_network_alpha", "")
    try:
        value = float(said)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and 0 < value <= _MAX_ALPHA else 0.0


def trigger_words(metadata: Metadata) -> tuple[str, ...]:
    """Words that bring it out: those it names, else the tags of most training pictures."""
    named = tags(metadata.get("modelspec.trigger_phrase", "").split(","))
    if named:
        return named
    frequencies = metadata.get("ss_tag_frequency")
    if not frequencies:
        return ()
    counts: Counter[str] = Counter()
    for word, count in _counted(_json(frequencies)):
        counts[word] += count
    commonest = counts.most_common(_MAX_WORDS)
    return tags(word for word, count in commonest if 2 * count >= commonest[0][1])


def _counted(frequencies: Any) -> Iterator[tuple[str, int]]:
    """Tags and counts of `{"folder": {"tag": count}}`, of which anything may be missing."""
    if not isinstance(frequencies, dict):
        return
    for folder in frequencies.values():
        for word, count in folder.items() if isinstance(folder, dict) else ():
            if type(count) is int and 0 < count < 1 << 53 and word.strip():
                yield word.strip(), count


def _json(text: str) -> Any:
    if len(text) > _MAX_JSON:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
