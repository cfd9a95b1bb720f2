"""LoRAs on a device: read once, kept while they are used, let go before models are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import torch

from domains.device.types import LoadedComponent
from domains.inference.backends.tensor_reading import UnreadableTensor, read_tensor
from domains.inference.errors import LoraRefused
from domains.model.backends.confined_files import ConfinedFiles, Fingerprint
from domains.model.backends.lora.file import Finding, check_applied, parse_lora
from domains.model.backends.lora.targets import Target
from domains.model.backends.safetensors_header import TensorEntry, read_header
from domains.model.errors import ModelNotFound
from domains.values import ByteFigure, ModelPlace

_MOST_KEPT = 16
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
    """The LoRAs used most recently on one device, and those that work uses now."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: OrderedDict[ModelPlace, KeptLora] = OrderedDict()
        self._used: set[ModelPlace] = set()  # by the work that is done now

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
        # The catalogue may name that place anew.
        kept = replace(kept, model_id=model_id, last_use=datetime.now(UTC))
        self._kept[place] = kept
        self._kept.move_to_end(place)
        self._used.add(place)
        idle = [one for one in self._kept if one not in self._used]
        for one in idle[: max(len(self._kept) - _MOST_KEPT, 0)]:
            del self._kept[one]
        return kept

    def end_work(self) -> None:
        """No work uses any of them now."""
        self._used.clear()

    def let_go(self, model_ids: Collection[str] = ()) -> tuple[LoadedComponent, ...]:
        """Keep none of these, or none at all, except those that work uses now.

        Returns:
            What has gone.
        """
        gone = [
            kept
            for place, kept in self._kept.items()
            if place not in self._used and (not model_ids or kept.model_id in model_ids)
        ]
        for kept in gone:
            del self._kept[kept.place]
        return tuple(map(_component, gone))

    def components(self) -> tuple[LoadedComponent, ...]:
        """What is kept, each LoRA as one component."""
        return tuple(map(_component, self._kept.values()))

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
                try:
                    return read_tensor(file, entry, self._device)
                except UnreadableTensor as error:
                    raise refused(model_id, error.finding) from error

            changes = tuple(
                (target, {part: read(entry) for part, entry in target.parts.items()})
                for target in lora.targets
            )
        return KeptLora(model_id, place, fingerprint, changes)


def _component(kept: KeptLora) -> LoadedComponent:
    return LoadedComponent(
        model_id=kept.model_id,
        component="lora",
        size=ByteFigure.measured(kept.size_bytes, "sum of torch.Tensor.nbytes"),
        data_type=None,
        last_use_time=kept.last_use,
        load_time=kept.load_time,
    )


def refused(model_id: str, finding: Finding) -> LoraRefused:
    """The error for a LoRA that cannot be applied."""
    return LoraRefused(model_id, finding.reason, finding.tensor, finding.description)
