"""The Python twin of common.proto: what messages of several domains hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from msgspec import Meta

from domains.codec import (
    ByteCount,
    Count,
    FilePath,
    ModelId,
    Seconds,
    Sha256,
    Text,
    Value,
)
from domains.limits import default_of


class TensorDataType(Enum):
    """Element type of tensors."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT64 = "float64"
    FLOAT8_E4M3 = "float8_e4m3"
    FLOAT8_E5M2 = "float8_e5m2"
    INT8 = "int8"
    UINT8 = "uint8"


class ModelPlace(Value, frozen=True):
    """Where a model lies: a model root, and the path from there on.

    Whoever opens it goes from the root on and stays inside, whatever became of the names
    on the way since the place was noted.
    """

    root: Path
    inside: Path

    @classmethod
    def of(cls, path: Path) -> ModelPlace:
        """A model in a root of its own: the folder that it lies in."""
        return cls(path.parent, Path(path.name))

    @property
    def path(self) -> Path:
        """The whole path, to be shown and compared and not to be opened."""
        return self.root / self.inside


class ModelContent(Value, frozen=True):
    """Which content of a model work was accepted for: what its weight files have in bytes
    together, a hash over their names, sizes and times, and the SHA-256 of their content as
    `GetModel` tells it, empty where it was not known by then."""

    model_id: ModelId
    size_bytes: ByteCount
    fingerprint: Sha256
    sha256: Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{64})?\Z")] = ""


class CachedFile(Value, frozen=True):
    """A file of a model whose bytes lie in the arena from `offset_bytes` on.

    They are those of a file of this size and time of modification, and of no other. `name`
    is its path below the model's place with slashes; empty where the model is one file.
    """

    name: FilePath
    size_bytes: ByteCount
    modified_ns: Annotated[int, Meta(ge=-(2**62), le=2**62)]
    offset_bytes: ByteCount


class CachedModel(Value, frozen=True):
    """A model's weight files in the arena, which stay there while the job runs.

    `arena` and `arena_bytes` are what `open_arena` takes. Whoever finds a file otherwise
    than it is described here reads the disk.
    """

    arena: Annotated[str, Meta(max_length=256)]
    arena_bytes: ByteCount
    files: Annotated[tuple[CachedFile, ...], Meta(max_length=1_000)]


class EvictionCause(Enum):
    """Why a model left memory."""

    REQUESTED = "requested"
    ROOM = "room"
    PRESSURE = "pressure"
    WORKER_LOST = "worker-lost"
    FILE_CHANGED = "file-changed"


class ModelPart(Enum):
    """A part of a model that has numbers of its own."""

    DENOISER = "denoiser"
    VAE = "vae"
    TEXT_ENCODER = "text-encoder"
    TEXT_ENCODER_2 = "text-encoder-2"
    TEXT_ENCODER_3 = "text-encoder-3"


NETWORK_PARTS: Mapping[str, ModelPart] = MappingProxyType(
    {
        "unet": ModelPart.DENOISER,
        "vae": ModelPart.VAE,
        "text_encoder": ModelPart.TEXT_ENCODER,
        "text_encoder_2": ModelPart.TEXT_ENCODER_2,
        "controlnet": ModelPart.DENOISER,  # it is half of one
        "image_prompt": ModelPart.DENOISER,  # it is some of its layers
        "image_encoder": ModelPart.TEXT_ENCODER,  # it reads a prompt as well
    }
)
"""Parts that compute, by the name of the network among a model's components."""


class PartDataType(Value, frozen=True):
    """In which data type a part of a model computes."""

    part: ModelPart
    data_type: TensorDataType


class ModelOrigin(Enum):
    """Where a model was when work needed it."""

    LOADED = "loaded"
    CACHED = "cached"
    DISK = "disk"


class FigureQuality(Enum):
    """How far a figure can be trusted."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


class ByteFigure(Value, frozen=True):
    """A number of bytes and the call or computation behind it; None when unknown."""

    value: ByteCount | None
    quality: FigureQuality
    source: Text

    @classmethod
    def measured(cls, value: int, source: str) -> ByteFigure:
        """A number that an allocator, driver or operating system gave."""
        return cls(value, FigureQuality.MEASURED, source)

    @classmethod
    def unknown(cls, why: str) -> ByteFigure:
        """No number, and why there is none."""
        return cls(None, FigureQuality.UNKNOWN, why)

    def __post_init__(self) -> None:
        if (self.value is None) is not (self.quality is FigureQuality.UNKNOWN):
            raise ValueError("a figure has a number unless it is unknown")
        if not self.source:
            raise ValueError("a figure has a source")


class ImageFileFormat(Enum):
    """Encoding of a finished picture."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"


class SourceMetadata(Enum):
    """What a file keeps of the metadata of its source."""

    DISCARD = "discard"
    KEEP = "keep"


class Toggle(Enum):
    """Three answers, where the server's own judgement is the usual one."""

    SERVER = "server"
    ON = "on"
    OFF = "off"


class ProvenanceWish(Value, frozen=True):
    """Which marks a request wants in its pictures: a signed manifest, an invisible mark."""

    manifest: Toggle = Toggle.SERVER
    watermark: Toggle = Toggle.SERVER


class PictureMarks(Value, frozen=True):
    """Marks that a picture bears, or is to bear: a signed manifest, an invisible mark."""

    manifest: bool = False
    watermark: bool = False

    def __or__(self, other: PictureMarks) -> PictureMarks:
        """Those of either."""
        return PictureMarks(self.manifest or other.manifest, self.watermark or other.watermark)

    @property
    def wish(self) -> ProvenanceWish:
        """The wish for just these."""
        toggles = (Toggle.OFF, Toggle.ON)
        return ProvenanceWish(toggles[self.manifest], toggles[self.watermark])


NO_MARKS = PictureMarks()
"""Neither."""


class OutputSettings(Value, frozen=True):
    """How finished pictures are encoded; `quality` is for JPEG, AVIF and lossy WebP. They are
    kept for `retention` seconds after their last use, None for as long as the server's setting
    says."""

    format: ImageFileFormat = ImageFileFormat.PNG
    quality: Count = int(default_of("OutputSettings.quality"))
    lossless: bool = False
    omit_parameters: bool = False
    provenance: ProvenanceWish = ProvenanceWish()
    retention: Seconds | None = None
    source_metadata: SourceMetadata = SourceMetadata.DISCARD


class DegradationKind(Enum):
    """Ways in which a result may be made otherwise than asked or than usual."""

    VAE_TILED = "vae-tiled"
    DATA_TYPE = "data-type"
    CPU_FALLBACK = "cpu-fallback"
    OFFLOADED = "offloaded"
    ATTENTION_SLICED = "attention-sliced"
    SLOW_ENCODER = "slow-encoder"
    PROMPT_TRUNCATED = "prompt-truncated"
    PARAMETERS_OMITTED = "parameters-omitted"
    PROMPT_SYNTAX_LITERAL = "prompt-syntax-literal"
    SHARED_LESS = "shared-less"


class Degradation(Value, frozen=True):
    """Something done otherwise than asked or than usual, and why; `part` is the part of the
    model that it is about.
    """

    kind: DegradationKind
    detail: Text
    part: ModelPart | None = None


class PlacementReason(Enum):
    """What decided on which device work runs."""

    NAMED = "named"  # the request names it, or is about it
    ONLY_ONE = "only-one"  # no other one came into question
    MODEL_LOADED = "model-loaded"
    SHORTEST_WAIT = "shortest-wait"
    FASTER = "faster"
    DEFAULT = "default"  # nothing told the candidates apart


@dataclass(frozen=True)
class PlacementDecision:
    """The device that was chosen for a piece of work, and why that one.

    `expected_seconds` is from the decision to the end of the work, waiting included; None
    where nothing comparable was measured. `candidate_device_ids` are those it was chosen from.
    """

    device_id: str
    reason: PlacementReason
    expected_seconds: float | None = None
    candidate_device_ids: tuple[str, ...] = ()

    @classmethod
    def named(cls, device_id: str, expected_seconds: float | None = None) -> PlacementDecision:
        """There was no choice: the work is for this device, or for none if it is empty."""
        candidates = (device_id,) if device_id else ()
        return cls(device_id, PlacementReason.NAMED, expected_seconds, candidates)


class ControlNetType(Enum):
    """What a union of ControlNets takes a control picture for, in the order of its embeddings
    (xinsir6/ControlNetPlus, rows of `task_embedding`)."""

    POSE = "pose"
    DEPTH = "depth"
    SOFT_EDGE = "soft-edge"
    EDGE = "edge"
    NORMAL = "normal"
    SEGMENT = "segment"
    TILE = "tile"
    REPAINT = "repaint"

    @property
    def number(self) -> int:
        """Which of a network's embeddings is its own, from 0."""
        return list(ControlNetType).index(self)


# What the catalogue calls unions of ControlNets.
UNION, PROMAX = "ControlNet union", "ControlNet union ProMax"
_TYPES: Mapping[str, tuple[ControlNetType, ...]] = {
    UNION: tuple(ControlNetType)[: ControlNetType.TILE.number],
    PROMAX: tuple(ControlNetType),
}


def types_of(kind: str) -> tuple[ControlNetType, ...]:
    """What models of a kind (`Model.kind`) take control pictures for; nothing where they are
    no unions."""
    return _TYPES.get(kind, ())


def listed_types(types: tuple[ControlNetType, ...]) -> str:
    """Their names in the contract, for a sentence."""
    return ", ".join(each.name for each in types)
