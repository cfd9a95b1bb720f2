"""Whether stored weights are those that a configuration describes, by their headers alone.

It costs as much as the headers are long, however large a network the configuration asks
for: the first layer that is not stored ends it. So nothing hostile is ever built.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.bounds import Config
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.safetensors_header import MAX_TENSORS, Header, TensorEntry

# Networks are computed in floating point; quantised ones would need code of their own.
WEIGHT_TYPES = ("F32", "F16", "BF16", "F64")
# A constant that older versions stored.
POSITION_IDS = "position_ids"
_KEYS_SHOWN = 3
# Text encoders come with and without it.
_PREFIX = "text_model."


def check_weights(
    component: str, network: NetworkClass, config: Config, headers: Iterable[Header]
) -> None:
    """Refuse weights that no network of a checked configuration can be filled from.

    Args:
        component: The network's folder, for messages.
        network: Its class.
        config: Within the bounds of its class.
        headers: Of all its files, each checked.

    Raises:
        FailedPrecondition: MODEL_DTYPE_UNSUPPORTED when a weight is not a floating-point
            number, MODEL_INCOMPLETE when a layer is not stored, MODEL_SHAPE_INVALID when
            it has another shape, MODEL_HEADER_TOO_LARGE for more tensors than a network
            has.
    """
    stored: dict[str, TensorEntry] = {}
    for header in headers:
        for entry in header.tensors:
            if not entry.name.endswith(POSITION_IDS):
                _check_type(component, entry)
                stored[entry.name.removeprefix(_PREFIX)] = entry
        if len(stored) > MAX_TENSORS:
            raise FailedPrecondition(
                f"The model's {component} has more than {MAX_TENSORS} tensors.",
                reason=Reason.MODEL_HEADER_TOO_LARGE,
                metadata={"component": component},
            )
    for name, shape in network.tensors(config):
        entry_or_none = stored.get(name)
        if entry_or_none is None:
            raise incomplete(component, [name], [])
        if not _fits(entry_or_none.shape, shape):
            raise misshapen(component, entry_or_none.name)


def misshapen(component: str, tensor: str) -> FailedPrecondition:
    """MODEL_SHAPE_INVALID: a tensor is not of the shape that the configuration says."""
    return FailedPrecondition(
        f"The model's {component} has weights of another shape than its configuration "
        "says; fetch both again.",
        reason=Reason.MODEL_SHAPE_INVALID,
        metadata={"component": component, "tensor": tensor},
    )


def incomplete(component: str, missing: list[str], unexpected: list[str]) -> FailedPrecondition:
    """MODEL_INCOMPLETE: tensors that are missing or that no layer has; names a few."""
    metadata = {"component": component}
    parts = []
    for label, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            more = ", ..." if len(names) > _KEYS_SHOWN else ""
            shown = ", ".join(names[:_KEYS_SHOWN]) + more
            metadata[f"{label}_count"] = str(len(names))
            metadata[f"{label}_tensors"] = shown
            parts.append(f"{len(names)} {label} ({shown})")
    return FailedPrecondition(
        f"The weights of the model's {component} are not those that its configuration "
        f"describes: {'; '.join(parts)}.",
        reason=Reason.MODEL_INCOMPLETE,
        metadata=metadata,
    )


def _check_type(component: str, entry: TensorEntry) -> None:
    if entry.data_type not in WEIGHT_TYPES:
        raise FailedPrecondition(
            f"The model's {component} has weights of type {entry.data_type}; fetch a copy "
            f"in one of {', '.join(WEIGHT_TYPES)}.",
            reason=Reason.MODEL_DTYPE_UNSUPPORTED,
            metadata={"component": component, "tensor": entry.name},
        )


def _fits(stored: tuple[int, ...], wanted: tuple[Any, ...]) -> bool:
    return len(stored) == len(wanted) and all(
        size in (None, actual) for actual, size in zip(stored, wanted, strict=True)
    )
