"""Settings survive the way through a picture's texts, whatever fields they have."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from msgspec import inspect
from msgspec.structs import replace
from PIL import Image

from domains.inference import convert
from domains.inference.backends.parameters import full_text, shared_text
from domains.inference.types import (
    DdimOptions,
    GenerationSettings,
    GuidanceSettings,
    LoraWeight,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SigmaSpacing,
)
from domains.inference.types.sampling import OPTIONS
from domains.picture.backends.encoding import encode_image
from domains.picture.types import PictureFile
from domains.values import ImageFileFormat, OutputSettings
from server.cli.likeness import likeness
from server.cli.stated_settings import read_stated

_SIZE = 256


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type as msgspec describes it, within its bounds."""
    match kind:
        case inspect.StructType(cls=cls, fields=fields):
            if cls is PictureFile:
                return st.none()
            return st.builds(cls, **{each.name: values(each.type) for each in fields})
        case inspect.UnionType(types=types):
            return st.one_of(*(values(each) for each in types if not _is_picture(each)))
        case inspect.VarTupleType(item_type=item) if _is_picture(item):
            return st.just(())
        case inspect.VarTupleType(item_type=item):
            return st.lists(values(item), max_size=3).map(tuple)
        case inspect.IntType(ge=least, le=most, lt=below):
            top = most if most is not None else (below or 2**31) - 1
            return st.integers(least or 0, min(top, 2**31 - 1))
        case inspect.FloatType(ge=least, le=most):
            return st.floats(least, most, allow_nan=False, allow_infinity=False)
        case inspect.StrType():
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
    raise TypeError(f"no values of {kind}")


def _is_picture(kind: Any) -> bool:
    return isinstance(kind, inspect.StructType) and kind.cls is PictureFile


def resolved(settings: GenerationSettings) -> GenerationSettings:
    """As a job has them: nothing open that has to be decided before, one kind of options
    and of beginning."""
    given = [name for name in OPTIONS if getattr(settings.scheduler, name) is not None]
    return replace(
        settings,
        width=_SIZE,
        height=_SIZE,
        image_count=None,
        seed=None,
        seeds=(),
        scheduler=replace(
            settings.scheduler,
            scheduler=settings.scheduler.scheduler or Scheduler.DDIM,
            **dict.fromkeys(given[1:]),
        ),
        loras=tuple(
            replace(lora, text_encoder_weight=lora.text_encoder_weight or 0.0)
            for lora in settings.loras
        ),
        control_nets=tuple(replace(net, images=()) for net in settings.control_nets),
        image_to_image=None if settings.inpainting else settings.image_to_image,
        output=OutputSettings(),
    )


def read_back(text: str) -> tuple[GenerationSettings, list[str]]:
    message, notes = read_stated(text)
    return convert.settings_from_proto(message), notes


@trying(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(values(inspect.type_info(GenerationSettings)), st.integers(0, 2**32 - 1))
@example(GenerationSettings(sdxl=SdxlSettings(prompt_2="")), 0)
def test_the_full_text_is_read_back_whole(settings: GenerationSettings, seed: int) -> None:
    asked = resolved(settings)

    found, notes = read_back(full_text(asked, seed, data_types=()))

    stated = convert.settings_from_proto(convert.settings_to_proto(asked))
    assert found == replace(stated, seed=seed)
    assert notes == []


USUAL = GenerationSettings(
    prompt="a red apple, big\non a table",
    negative_prompt="ugly, blurred",
    model_id="emoji-xl",
    width=512,
    height=768,
    steps=30,
    guidance=GuidanceSettings(6.5, 0.5),
    clip_skip=1,
    seeds=(42,),
    scheduler=SchedulerSettings(Scheduler.DPM_SOLVER_MULTISTEP, spacing=SigmaSpacing.KARRAS),
    loras=(LoraWeight("line-art", 0.8, 0.5), LoraWeight("pixel-art", -0.25, -0.25)),
)


@pytest.mark.parametrize("format", list(ImageFileFormat))
@pytest.mark.parametrize("full", [True, False])
def test_a_file_of_each_format_is_read_back(
    tmp_path: Path, format: ImageFileFormat, full: bool
) -> None:
    """By its full text, and without that by the one that others read."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    data = encode_image(
        pixels,
        OutputSettings(format),
        shared_text=shared_text(USUAL, 42),
        full_text=full_text(USUAL, 42, data_types=()) if full else "",
    )
    path = tmp_path / "picture"
    path.write_bytes(data)

    found = likeness(path)
    back = convert.settings_from_proto(found.settings)

    expected = replace(USUAL, seeds=(), seed=42)
    if not full:
        # The shared text has its prompt on one line.
        expected = replace(expected, prompt="a red apple, big on a table")
        assert found.notes
    assert replace(back, loras=()) == replace(expected, loras=())
    told = [(each.model_id, each.weight, each.text_encoder_weight) for each in back.loras]
    assert told[0] == ("line-art", 0.8, 0.5)
    assert told[1][:2] == ("pixel-art", -0.25)


def test_what_a_file_holds_is_what_was_written(tmp_path: Path) -> None:
    """The reader's own walk through chunks agrees with Pillow's."""
    data = encode_image(
        np.zeros((8, 8, 3), np.uint8), OutputSettings(), shared_text="x\u2603", full_text="{}"
    )
    image = Image.open(io.BytesIO(data))
    image.load()
    path = tmp_path / "x.png"
    path.write_bytes(data)

    from server.cli.picture_texts import read_texts

    texts = read_texts(path)
    assert (texts.shared, texts.full) == (image.text["parameters"], image.text["deviceops"])


def test_loras_stand_in_the_shared_text() -> None:
    first = shared_text(USUAL, 1).split("\n")[0]

    assert first.endswith("<lora:line-art:0.5:0.8> <lora:pixel-art:-0.25>")
    odd = replace(USUAL, loras=(LoraWeight("a:b<c>", 1.0, 1.0),))
    assert "<lora:a b c :1>" in shared_text(odd, 1)


def test_every_scheduler_is_read_back_by_the_name_that_others_use(tmp_path: Path) -> None:
    for scheduler in Scheduler:
        ddim = DdimOptions(0.5) if scheduler is Scheduler.DDIM else None
        settings = replace(USUAL, scheduler=SchedulerSettings(scheduler, ddim=ddim))
        path = tmp_path / f"{scheduler.name}.png"
        path.write_bytes(
            encode_image(
                np.zeros((8, 8, 3), np.uint8),
                OutputSettings(),
                shared_text=shared_text(settings, 1),
            )
        )

        back = convert.settings_from_proto(likeness(path).settings)
        assert back.scheduler.scheduler is scheduler


def test_settings_are_values() -> None:
    """The strategy above would miss a field that is none."""
    assert isinstance(inspect.type_info(GenerationSettings), inspect.StructType)
    assert issubclass(GenerationSettings, msgspec.Struct)
