"""What a LoRA's tensor is, by the end of its name.

Sources: kohya-ss/sd-scripts (`networks/lora.py`, `networks/oft.py`), KohakuBlueleaf/LyCORIS
(`lycoris/modules`), peft (`tuners/lora`, `tuners/oft`, `tuners/boft`), diffusers'
`lora_conversion_utils.py` and its older attention processors.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Algorithm(Enum):
    """How the change of a layer's weights is written down; the value is what people call it."""

    LORA = "LoRA"
    LOHA = "LoHa"
    LOKR = "LoKr"
    GLORA = "GLoRA"
    IA3 = "IA3"
    OFT = "OFT"
    BOFT = "BOFT"
    FULL = "full difference"
    NORM = "norm"


class Piece(NamedTuple):
    """One tensor of a LoRA: the layer as the file names it, and what part of its change it is.

    `algorithm` is None for parts that several algorithms have.
    """

    layer: str
    algorithm: Algorithm | None
    part: str


LOHA_PARTS = (
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    *("hada_t1", "hada_t2"),
)
LOKR_PARTS = (
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b"),
    *("lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t1", "lokr_t2"),
)
_LORA = Algorithm.LORA
_ENDINGS: dict[str, tuple[Algorithm | None, str]] = {
    "lora_down.weight": (_LORA, "down"),
    "lora_up.weight": (_LORA, "up"),
    "lora_mid.weight": (_LORA, "mid"),
    "lora_up.bias": (_LORA, "up_bias"),
    "lora_A.weight": (_LORA, "down"),
    "lora_B.weight": (_LORA, "up"),
    "lora_B.bias": (_LORA, "up_bias"),
    "lora_a": (_LORA, "down"),
    "lora_b": (_LORA, "up"),
    "lora.down.weight": (_LORA, "down"),
    "lora.up.weight": (_LORA, "up"),
    "lora_linear_layer.down.weight": (_LORA, "down"),
    "lora_linear_layer.up.weight": (_LORA, "up"),
    "alpha": (None, "alpha"),
    "scalar": (None, "scalar"),
    "dora_scale": (None, "magnitude"),
    "lora_magnitude_vector": (None, "magnitude"),
    "lora_magnitude_vector.weight": (None, "magnitude"),
    **{part: (Algorithm.LOHA, part) for part in LOHA_PARTS},
    **{part: (Algorithm.LOKR, part) for part in LOKR_PARTS},
    **{f"{part}.weight": (Algorithm.GLORA, part) for part in ("a1", "a2", "b1", "b2", "bm")},
    "on_input": (Algorithm.IA3, "on_input"),
    "diff": (Algorithm.FULL, "diff"),
    "diff_b": (Algorithm.FULL, "diff_b"),
    "set_weight": (Algorithm.FULL, "set"),
    "w_norm": (Algorithm.NORM, "weight"),
    "b_norm": (Algorithm.NORM, "bias"),
    "oft_blocks": (Algorithm.OFT, "blocks"),
    "oft_diag": (Algorithm.OFT, "blocks"),
    "oft_R.weight": (Algorithm.OFT, "blocks"),
    "rescale": (Algorithm.OFT, "rescale"),
    "boft_R": (Algorithm.BOFT, "blocks"),
    "boft_s": (Algorithm.BOFT, "rescale"),
}
_LONGEST = 3
_MATRICES = {"lora_A": "down", "lora_B": "up"}


def piece(name: str) -> Piece | None:
    """Take a tensor's name apart; None where its end is that of no LoRA."""
    words = name.split(".")
    for length in range(min(_LONGEST, len(words) - 1), 0, -1):
        found = _ENDINGS.get(".".join(words[-length:]))
        if found is not None:
            return Piece(".".join(words[:-length]), *found)
    if len(words) > _LONGEST and words[-1] == "weight":
        # peft puts the name of the adapter in between.
        if words[-3] in _MATRICES:
            return Piece(".".join(words[:-3]), _LORA, _MATRICES[words[-3]])
        if words[-3] == "lora_magnitude_vector":
            return Piece(".".join(words[:-3]), None, "magnitude")
        # diffusers' older attention processors: to_k_lora.down.weight
        if words[-3].endswith("_lora") and words[-2] in ("down", "up"):
            layer = ".".join((*words[:-3], words[-3].removesuffix("_lora")))
            return Piece(layer, _LORA, words[-2])
    return None
