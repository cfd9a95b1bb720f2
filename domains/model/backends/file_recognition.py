"""What a safetensors file is, by its tensors and by what is said of it.

One answer for the catalogue and for loading: what is listed is what is drawn.
"""

from __future__ import annotations

from dataclasses import replace

from domains.errors import FailedPrecondition
from domains.model.backends import spoken_metadata
from domains.model.backends.companion import beside
from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.families.registry import BY_ARCHITECTURE
from domains.model.backends.original_config import (
    ENDINGS,
    MAX_CONFIG_BYTES,
    OriginalConfig,
    read_original_config,
)
from domains.model.backends.recognition import Recognised, Tensors, recognise
from domains.model.backends.remembered import Remembered
from domains.model.backends.safetensors_header import Header
from domains.model.types import ModelType, PredictionType


def config_names(files: ConfinedFiles) -> list[str]:
    """What the configuration beside a file may be called; the first that is there counts."""
    return [files.place.inside.with_suffix(ending).name for ending in ENDINGS]


def config_beside(files: ConfinedFiles) -> OriginalConfig:
    """The configuration that lies beside a file under its name; one that cannot be read says
    nothing.

    Raises:
        PathOutsideRoot: It is a link that leads outside the root.
        OSError: The machine cannot read it at the moment.
    """
    around = beside(files)
    for name in config_names(files):
        if around.has_file(name):
            try:
                return read_original_config(around.read(name, MAX_CONFIG_BYTES))
            except FailedPrecondition:
                break
    return OriginalConfig()


# Of LoRAs people have thousands, in few layouts, and their metadata do not say what they are.
_LORAS: Remembered[Recognised] = Remembered(1_024)


def _by_tensors(header: Header) -> Recognised:
    known = _LORAS.get(header.layout)
    if known is not None:
        return known
    found = recognise(Tensors.of(header))
    if header.layout and found.type is ModelType.LORA:
        _LORAS.keep(header.layout, found)
    return found


def recognise_file(header: Header, original: OriginalConfig) -> Recognised:
    """What a file is; what its tensors leave open, from `original` and its own metadata.

    Marker tensors come first: they were put there to be believed.
    """
    found, metadata = _by_tensors(header), header.metadata
    if not found.family and found.type is not None:
        said = found.architecture or spoken_metadata.architecture(metadata)
        if said is not found.architecture:
            found = replace(found, architecture=said)
    if found.formulation or found.prediction is PredictionType.FLOW:
        return found
    # Of these two the commoner one is no mark, but what is left without one.
    marked = found.prediction is not PredictionType.EPSILON
    told = spoken_metadata.prediction(metadata)
    prediction = (found.prediction if marked else None) or original.prediction or told
    predicts = prediction or found.prediction
    zero_snr = found.zero_terminal_snr or original.zero_terminal_snr
    if (predicts, zero_snr) != (found.prediction, found.zero_terminal_snr):
        found = replace(found, prediction=predicts, zero_terminal_snr=zero_snr)
    if found.architecture is not None and not found.native_size and prediction:
        sizes = BY_ARCHITECTURE[found.architecture].native_sizes
        found = replace(found, native_size=sizes.get(prediction, 0))
    return found
