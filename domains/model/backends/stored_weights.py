"""Whether stored weights are those that a configuration describes, by their headers alone.

It costs as much as the headers are long, however large a network the configuration asks
for: the first layer that is not stored ends it. So nothing hostile is ever built.
"""

from __future__ import annotations

from typing import Any

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.model_plan import NetworkPlan
from domains.model.backends.safetensors_header import MAX_TENSORS, TensorEntry

# Networks are computed in floating point; quantised ones would need code of their own.
WEIGHT_TYPES = ("F32", "F16", "BF16", "F64", "F8_E4M3", "F8_E5M2")
_KEYS_SHOWN = 3


def check_weights(network: NetworkPlan) -> None:
    """Refuse a network that cannot be filled from what is stored.

    Its configuration is within the bounds of its class.

    Raises:
        FailedPrecondition: MODEL_DTYPE_UNSUPPORTED when a weight is not a floating-point
            number, MODEL_INCOMPLETE when a layer is not stored, MODEL_SHAPE_INVALID when
            it has another shape, MODEL_HEADER_TOO_LARGE for more tensors than a network
            has.
    """
    if len(network.tensors) > MAX_TENSORS:
        raise FailedPrecondition(
            f"The model's {network.name} has more than {MAX_TENSORS} tensors.",
            reason=Reason.MODEL_HEADER_TOO_LARGE,
            metadata={"component": network.name},
        )
    for origin in network.tensors.values():
        check_type(network.name, origin.stored)
    for name, shape in network.network_class.tensors(network.config):
        found = network.tensors.get(name)
        if found is None:
            raise incomplete(network.name, [name], [])
        if not _fits(found.shape, shape):
            raise misshapen(network.name, found.stored.name)


def changed_meanwhile() -> FailedPrecondition:
    """MODEL_TRUNCATED: a file is not as it was when it was checked."""
    return FailedPrecondition(
        "A weight file changed while it was being read; try again once it is complete.",
        reason=Reason.MODEL_TRUNCATED,
    )


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


def check_type(component: str, entry: TensorEntry) -> None:
    """Refuse a weight that is no floating-point number: MODEL_DTYPE_UNSUPPORTED."""
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
