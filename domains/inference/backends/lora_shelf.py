"""LoRAs on a device: read once, kept while they are used, let go before models are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import torch

from domains.device.types import LoadedComponent
from domains.errors import Reason
from domains.inference.errors import LoraRefused
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.model.backends.lora.file import Finding, check_applied, parse_lora
from domains.model.backends.lora.targets import Target
from domains.model.backends.safetensors_header import TensorEntry, read_header
from domains.model.errors import ModelNotFound
from domains.values import ByteFigure, ModelPlace

_MOST_KEPT = 16
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
}
Parts = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class KeptLora:
    """A LoRA's changes in the file's order, with the tensors of each by what they are in it, on
    the device in the file's element types."""

    model_id: str
    place: ModelPlace
    fingerprint: Fingerprint
    changes: tuple[tuple[Target, Parts], ...]
    load_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_use: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(one.nbytes for _, parts in self.changes for one in parts.values())


class LoraShelf:
    """The LoRAs used most recently on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: OrderedDict[ModelPlace, KeptLora] = OrderedDict()

    def get(self, model_id: str, place: ModelPlace) -> KeptLora:
        """A LoRA, read anew where its file is another than before.

        Raises:
            ModelNotFound: It is no longer there.
            FailedPrecondition: As `read_header`; MODEL_INCOMPLETE, MODEL_SHAPE_INVALID or
                MODEL_INCOMPATIBLE for what `parse_lora` finds in it, or for a kind of change
                that is not applied.
        """
        files = ConfinedFiles(place)
        if not files.exists():
            raise ModelNotFound(model_id, "its file is no longer in the model folder.")
        fingerprint = files.states(("",))
        kept = self._kept.get(place)
        if kept is None or kept.fingerprint != fingerprint:
            kept = self._read(model_id, place, files, fingerprint)
            self._kept[place] = kept
        kept = self._kept[place] = replace(kept, last_use=datetime.now(UTC))
        self._kept.move_to_end(place)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return kept

    def let_go(self) -> None:
        """Keep none."""
        self._kept.clear()

    def components(self) -> tuple[LoadedComponent, ...]:
        """What is kept, each LoRA as one component."""
        return tuple(
            LoadedComponent(
                model_id=kept.model_id,
                component="lora",
                size=ByteFigure.measured(kept.size_bytes, "sum of torch.Tensor.nbytes"),
                data_type=None,
                last_use_time=kept.last_use,
                load_time=kept.load_time,
            )
            for kept in self._kept.values()
        )

    def _read(
        self, model_id: str, place: ModelPlace, files: ConfinedFiles, fingerprint: Fingerprint
    ) -> KeptLora:
        header = read_header(files)
        lora = parse_lora(header)
        findings = lora.findings or check_applied(lora)
        if findings:
            raise refused(model_id, findings[0])
        with files.open() as file:

            def read(entry: TensorEntry) -> torch.Tensor:
                kind = _TYPES.get(entry.data_type)
                if kind is None or not entry.size_bytes:
                    what = f"{entry.name!r} is of no element type or size that is applied."
                    finding = Finding(Reason.MODEL_INCOMPATIBLE, entry.name, what)
                    raise refused(model_id, finding)
                file.seek(entry.offset)
                data = bytearray(file.read(entry.size_bytes))
                if len(data) != entry.size_bytes:
                    finding = Finding(
                        Reason.MODEL_INCOMPLETE, entry.name, "The file ends too early."
                    )
                    raise refused(model_id, finding)
                return torch.frombuffer(data, dtype=kind).reshape(entry.shape).to(self._device)

            changes = tuple(
                (target, {part: read(entry) for part, entry in target.parts.items()})
                for target in lora.targets
            )
        return KeptLora(model_id, place, fingerprint, changes)


def refused(model_id: str, finding: Finding) -> LoraRefused:
    """The error for a LoRA that cannot be applied."""
    return LoraRefused(model_id, finding.reason, finding.tensor, finding.description)
