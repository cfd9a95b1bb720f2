"""How a file's weights are quantised, from the tensors that belong to it.

Sources: bitsandbytes (`QuantState.as_dict`, `Int8Params`), ComfyUI's scaled fp8, AutoGPTQ,
nunchaku (SVDQuant), torchao.
"""

from __future__ import annotations

from domains.model.backends.recognition.tensors import Tensors

_ENDS = (
    (".quant_state.bitsandbytes__nf4", "nf4 (bitsandbytes)"),
    (".quant_state.bitsandbytes__fp4", "fp4 (bitsandbytes)"),
    (".SCB", "int8 (bitsandbytes)"),
    (".wscales", "SVDQuant (nunchaku)"),
    (".qzeros", "GPTQ"),
    (".comfy_quant", "ComfyUI's quantised layers"),
    (".scale_weight", "scaled fp8"),
    (".weight_scale", "scaled fp8"),
    ("scaled_fp8", "scaled fp8"),
)
_FLOAT8 = frozenset({"F8_E4M3", "F8_E5M2"})


def quantisation(tensors: Tensors) -> str:
    """What people call it; empty where the weights are plain numbers."""
    if set(tensors.data_types.values()) <= {"F16", "BF16", "F32", "F64", "I64"}:
        return ""  # As nearly all are.
    ends = tuple(end for end, _ in _ENDS)
    found = next(tensors.ending(*ends), None)
    if found is not None:
        # A name may have the end of another kind further down: the first in order counts.
        return next(kind for end, kind in _ENDS if next(tensors.ending(end), None))
    counts = sum(data_type in _FLOAT8 for data_type in tensors.data_types.values())
    return "fp8" if counts > len(tensors) // 4 else ""
