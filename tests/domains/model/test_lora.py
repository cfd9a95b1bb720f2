"""LoRAs are taken apart layer by layer, whoever trained them, and checked against a model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from domains.errors import Reason
from domains.model.backends.companion_check import check_companion
from domains.model.backends.embedding_file import parse_embedding
from domains.model.backends.lora.endings import Algorithm
from domains.model.backends.lora.file import Sizes, check_fit, check_lora, parse_lora
from domains.model.backends.lora.layers import Layer, layer
from domains.model.backends.safetensors_header import Header, Table, TensorEntry, read_header
from domains.model.types import Architecture
from tests.domains.model.corpus.kinds import kinds
from tests.domains.model.corpus.parts import Shapes, part
from tests.domains.model.disk import DEMO, files_at

SDXL, SD1, SD2 = Architecture.SDXL, Architecture.SD1, Architecture.SD2
_NETWORKS = {
    SDXL: {"unet": "unet-sdxl", "text_encoder": "clip-l", "text_encoder_2": "openclip-g"},
    SD1: {"unet": "unet-sd1", "text_encoder": "clip-l"},
    SD2: {"unet": "unet-sd2", "text_encoder": "openclip-h"},
}
LORAS = [
    name
    for name, sample in kinds().items()
    if name.startswith("lora-")
    and not sample.told.get("family")
    and not any(other in name for other in ("flux", "sd3", "wan", "refiner"))
]


def header(shapes: Shapes) -> Header:
    """A header with these tensors."""
    entries = [TensorEntry(name, "F16", shape, 0, 0) for name, shape in shapes.items()]
    return Header(Table(tuple(entries)), {}, 0, b"")


def sizes(networks: dict[str, str]) -> Sizes:
    """The layers of a model whose networks these are."""
    return {
        Layer(network, name.removesuffix(".weight")): shape
        for network, table in networks.items()
        for name, shape in part(table).items()
        if name.endswith(".weight")
    }


def model(architecture: Architecture) -> Sizes:
    return sizes(_NETWORKS[architecture])


@pytest.mark.parametrize("name", LORAS)
def test_every_layer_of_a_lora_is_one_of_its_models(name: str) -> None:
    sample = kinds()[name]
    architecture = sample.architecture or SD1

    lora = parse_lora(header(sample.shapes))

    assert lora.findings == ()
    assert lora.targets
    used = {entry.name for target in lora.targets for entry in target.parts.values()}
    assert used == set(sample.shapes)
    assert check_fit(lora, model(architecture)) == ()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("lora-kohya-sd1", SDXL),
        ("lora-kohya-sdxl", SD1),
        ("lora-kohya-sdxl-diffusers-blocks", SD1),
        ("lora-loha-sd1", SDXL),
        ("lora-lokr-sdxl", SD1),
        ("lora-kohya-sd2", SD1),
        ("lora-lokr-sd2", SD1),
        ("lora-loha-sd2", SD1),
        ("lora-full-sd2", SD1),
        ("lora-glora-sd2", SD1),
        ("lora-processor-sd1", SD2),
    ],
)
def test_a_lora_of_another_architecture_does_not_fit(name: str, other: Architecture) -> None:
    found = check_fit(parse_lora(header(kinds()[name].shapes)), model(other))

    assert found
    assert {finding.reason for finding in found} == {Reason.MODEL_INCOMPATIBLE}


@pytest.mark.parametrize(
    ("name", "algorithm", "rank"),
    [
        ("lora-kohya-sdxl", Algorithm.LORA, 16),
        ("lora-loha-sdxl", Algorithm.LOHA, 16),
        ("lora-lokr-sdxl", Algorithm.LOKR, 16),
        ("lora-lokr-whole-sdxl", Algorithm.LOKR, 0),
        ("lora-glora-sdxl", Algorithm.GLORA, 16),
        ("lora-dora-sdxl", Algorithm.LORA, 16),
        ("lora-oft-sdxl", Algorithm.OFT, 0),
        ("lora-boft-sdxl", Algorithm.BOFT, 0),
        ("lora-norm-sdxl", Algorithm.NORM, 0),
    ],
)
def test_algorithm_and_rank_are_told(name: str, algorithm: Algorithm, rank: int) -> None:
    targets = parse_lora(header(kinds()[name].shapes)).targets

    assert {target.algorithm for target in targets} == {algorithm}
    assert {target.rank for target in targets} == {rank}


ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn2"


@pytest.mark.parametrize(
    ("name", "network", "own"),
    [
        (
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_out_0",
            "unet",
            f"{ATTENTION}.to_out.0",
        ),
        (f"lora_unet_{ATTENTION.replace('.', '_')}_to_k", "unet", f"{ATTENTION}.to_k"),
        (f"unet.{ATTENTION}.processor.to_out", "unet", f"{ATTENTION}.to_out.0"),
        (f"base_model.model.{ATTENTION}.to_k", "unet", f"{ATTENTION}.to_k"),
        (
            "diffusion_model.output_blocks.2.2.conv",
            "unet",
            "up_blocks.0.upsamplers.0.conv",
        ),
        ("lora_unet_input_blocks_3_0_op", "unet", "down_blocks.0.downsamplers.0.conv"),
        ("lora_unet_middle_block_2_emb_layers_1", "unet", "mid_block.resnets.1.time_emb_proj"),
        ("lora_unet_label_emb_0_0", "unet", "add_embedding.linear_1"),
        ("lora_unet_time_embed_2", "unet", "time_embedding.linear_2"),
        ("lora_unet_out_2", "unet", "conv_out"),
        ("lora_unet_input_blocks_0_0", "unet", "conv_in"),
        (
            "lora_te2_text_model_encoder_layers_31_self_attn_out_proj",
            "text_encoder_2",
            "text_model.encoder.layers.31.self_attn.out_proj",
        ),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.to_out",
            "text_encoder",
            "text_model.encoder.layers.0.self_attn.out_proj",
        ),
        ("lora_te_text_model_final_layer_norm", "text_encoder", "text_model.final_layer_norm"),
    ],
)
def test_names_of_layers_become_diffusers_own(name: str, network: str, own: str) -> None:
    assert layer(name) == Layer(network, own)


@pytest.mark.parametrize(
    "name", ["lora_unet_something_else", "lora_unet_", "lora_unet_middle_block_0_nothing"]
)
def test_what_is_no_layer_has_no_name(name: str) -> None:
    assert layer(name) in (None, Layer("unet", ""))


def change(shapes: Shapes) -> list[tuple[Reason, str]]:
    """What is wrong with a small LoRA after a change."""
    return [(finding.reason, finding.tensor) for finding in check_lora(header(shapes))]


KOHYA = "lora_unet_mid_block_attentions_0_proj_in"
PAIR: Shapes = {f"{KOHYA}.lora_down.weight": (4, 8), f"{KOHYA}.lora_up.weight": (8, 4)}


@pytest.mark.parametrize(
    ("shapes", "reason", "tensor"),
    [
        ({f"{KOHYA}.lora_down.weight": (4, 8)}, Reason.MODEL_INCOMPLETE, KOHYA),
        (
            {f"{ATTENTION}.to_k.lora_A.weight": (4, 8)},
            Reason.MODEL_INCOMPLETE,
            f"{ATTENTION}.to_k",
        ),
        (
            PAIR | {f"{KOHYA}.lora_up.weight": (8, 5)},
            Reason.MODEL_SHAPE_INVALID,
            f"{KOHYA}.lora_up.weight",
        ),
        (PAIR | {"left.over": (1,)}, Reason.MODEL_INCOMPATIBLE, "left.over"),
        (
            {name.replace("mid_block", "strange"): shape for name, shape in PAIR.items()},
            Reason.MODEL_INCOMPATIBLE,
            KOHYA.replace("mid_block", "strange"),
        ),
        ({f"{KOHYA}.alpha": ()}, Reason.MODEL_INCOMPLETE, KOHYA),
        ({f"{KOHYA}.hada_w1_a": (8, 4)}, Reason.MODEL_INCOMPLETE, KOHYA),
        ({f"{KOHYA}.lokr_w1": (8, 4)}, Reason.MODEL_INCOMPLETE, KOHYA),
        (PAIR | {f"{KOHYA}.hada_w1_a": (8, 4)}, Reason.MODEL_INCOMPLETE, KOHYA),
        (
            PAIR
            | {
                f"mid_block.attentions.0.proj_in.lora_{side}.weight": shape
                for side, shape in (("A", (4, 8)), ("B", (8, 4)))
            },
            Reason.MODEL_INCOMPATIBLE,
            "mid_block.attentions.0.proj_in",
        ),
    ],
)
def test_a_lora_that_is_not_whole_is_named(shapes: Shapes, reason: Reason, tensor: str) -> None:
    assert change(shapes) == [(reason, tensor)]


def test_words_bundled_with_a_lora_are_no_leftovers() -> None:
    assert change(PAIR | {"bundle_emb.word.string_to_param.*": (2, 768)}) == []


def demo_sizes() -> Sizes:
    """The layers of the demo model, from its own headers."""
    found: dict[Layer, tuple[int, ...]] = {}
    for network, file in (
        ("unet", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
        ("text_encoder_2", "model"),
    ):
        read = read_header(files_at(DEMO / network / f"{file}.fp16.safetensors"))
        for tensor in read.tensors:
            found[Layer(network, tensor.name.removesuffix(".weight"))] = tensor.shape
    return found


@pytest.mark.parametrize("name", ["line-art", "pixel-art"])
def test_the_demo_loras_change_layers_of_the_demo_model(name: str) -> None:
    lora = parse_lora(read_header(files_at(DEMO.parent / f"{name}.safetensors")))

    assert lora.findings == ()
    assert len(lora.targets) > 100
    assert check_fit(lora, demo_sizes()) == ()
    assert check_fit(lora, model(SD1))


def test_the_demo_embedding_has_rows_for_both_text_encoders() -> None:
    found = parse_embedding(read_header(files_at(DEMO.parent / "emoji-embedding.safetensors")))

    assert found.findings == ()
    assert found.rows.keys() == {"text_encoder", "text_encoder_2"}
    assert found.count == 4


@pytest.mark.parametrize(
    ("shapes", "reasons"),
    [
        ({"emb_params": (4, 768)}, []),
        ({"<cat>": (768,)}, []),
        ({"clip_g": (4, 1280)}, [Reason.MODEL_INCOMPLETE]),
        ({"clip_l": (4, 768), "clip_g": (3, 1280)}, [Reason.MODEL_SHAPE_INVALID]),
        ({"clip_l": (4, 768), "x": (1,)}, [Reason.MODEL_INCOMPATIBLE]),
        ({"emb_params": (4, 768), "x": (1,)}, [Reason.MODEL_INCOMPATIBLE]),
    ],
)
def test_an_embedding_that_is_not_whole_is_named(shapes: Shapes, reasons: list[Reason]) -> None:
    found = parse_embedding(header(shapes))

    assert [finding.reason for finding in found.findings] == reasons


def test_a_name_of_many_words_costs_no_time() -> None:
    """Names come from files: none may take longer than it is long."""
    name = "lora_unet_" + "conv_" * 100 + "x"
    read: Callable[[str], Layer | None] = layer

    assert read(name) is None


@pytest.mark.parametrize("name", kinds())
def test_nothing_is_wrong_with_a_whole_file_of_any_kind(name: str) -> None:
    assert check_companion(kinds()[name].shapes) == ()


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({f"{KOHYA}.lora_down.weight": (4, 8)}, Reason.MODEL_INCOMPLETE),
        (PAIR | {f"{KOHYA}.lora_up.weight": (8, 5)}, Reason.MODEL_SHAPE_INVALID),
        ({"clip_g": (4, 1280)}, Reason.MODEL_INCOMPLETE),
    ],
)
def test_what_is_wrong_with_a_companion_is_found(shapes: Shapes, reason: Reason) -> None:
    assert [finding.reason for finding in check_companion(shapes)] == [reason]
