"""The tensors of one network in a file, and what is taken of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from domains.model.backends.model_plan import Origin, WeightFile
from domains.model.backends.safetensors_header import TensorEntry

# A number that a tensor of eight bits was divided by, beside it; the first is ComfyUI's old
# name for it, the second the one of its later formats and of other programs.
_SCALES = (".scale_weight", ".weight_scale")
# What goes with such numbers, and what nothing needs that computes in floating point.
_BESIDE_SCALES = (".scale_input", ".input_scale")
_MARKERS = frozenset({"scaled_fp8"})
_EIGHT_BITS = frozenset({"F8_E4M3", "F8_E5M2"})


class Stored:
    """Tensors of a network by the names that they have in a file, behind a prefix.

    Args:
        file: That holds them.
        entries: Those of the network.
        prefix: In front of each name; left out in all that follows.
    """

    def __init__(
        self, file: WeightFile, entries: Iterable[TensorEntry], prefix: str = ""
    ) -> None:
        self.file = file
        self.prefix = prefix
        found = {entry.name.removeprefix(prefix): entry for entry in entries}
        self._scales = dict(_scales(found))
        used = {scale.name for scale in self._scales.values()}
        self.entries: Mapping[str, TensorEntry] = {
            name: entry
            for name, entry in found.items()
            if entry.name not in used and not _goes_with_scales(name, found)
        }

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def origin(
        self,
        name: str,
        *,
        shape: tuple[int, ...] | None = None,
        rows: tuple[int, int] | None = None,
        transposed: bool = False,
    ) -> Origin:
        """A network's tensor that comes from the one called `name`; see `Origin`."""
        entry = self.entries[name]
        if shape is None:
            shape = entry.shape[::-1] if transposed else entry.shape
        if rows is not None:
            shape = (rows[1] - rows[0], *shape[1:])
        scale = self._scales.get(name)
        return Origin(self.file, entry, shape, rows, transposed, scale)


def _scales(found: Mapping[str, TensorEntry]) -> Iterable[tuple[str, TensorEntry]]:
    for name, entry in found.items():
        layer = next((name.removesuffix(s) for s in _SCALES if name.endswith(s)), None)
        weight = found.get(f"{layer}.weight")
        if weight and weight.data_type in _EIGHT_BITS and entry.parameter_count == 1:
            yield f"{layer}.weight", entry


def _goes_with_scales(name: str, found: Mapping[str, TensorEntry]) -> bool:
    if name in _MARKERS:
        return True
    layer = next((name.removesuffix(s) for s in _BESIDE_SCALES if name.endswith(s)), None)
    return layer is not None and f"{layer}.weight" in found
