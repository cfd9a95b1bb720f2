"""Measures: what the numbers mean on pictures whose answer is known, sheets and tables."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from torch import Tensor

from demo.measure import __main__ as command
from demo.measure import comic, embedding, figures, inpainting, lora, metrics, pictures, sheet
from demo.train.embedding import far
from demo.train.parts.emoji import COLOURS, is_held_out, load_emoji
from demo.train.parts.styles import comic as comic_style
from demo.train.parts.styles import line_art, pixel_art

EMOJI = 48  # of which scenes are made here; all of them take long to read


@pytest.fixture(scope="module")
def truth() -> Tensor:
    return pictures.scenes(emoji=EMOJI).truth


def plain(*colour: float) -> Tensor:
    return torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 64, 64).contiguous()


def styled(paint, truth: Tensor) -> Tensor:
    return (paint(truth * 2 - 1) + 1) / 2


def test_saturation_is_that_of_hsv():
    assert metrics.saturation(plain(0.5, 0.5, 0.5)).item() == 0
    assert metrics.saturation(plain(0.0, 0.0, 0.0)).item() == 0
    assert metrics.saturation(plain(0.8, 0.0, 0.0)).item() == pytest.approx(1)
    assert metrics.saturation(plain(0.8, 0.4, 0.4)).item() == pytest.approx(0.5)


def test_block_uniformity_is_one_for_blocks_and_none_for_noise():
    generator = torch.Generator().manual_seed(1)
    blocks = torch.rand(1, 3, 4, 4, generator=generator).repeat_interleave(16, 2)
    assert metrics.block_uniformity(blocks.repeat_interleave(16, 3)).item() > 0.999
    noise = torch.rand(1, 3, 64, 64, generator=generator)
    assert metrics.block_uniformity(noise).item() < 0.1


def test_drawn_is_what_differs_from_the_border():
    picture = plain(0.2, 0.4, 0.9).clone()
    picture[..., 16:48, 16:32] = 0.0
    there = metrics.drawn(picture)
    assert there.sum() == 32 * 16
    assert there[0, 0, 20, 20]


def test_recognised_counts_pictures_nearest_to_their_own(truth):
    assert metrics.recognised(truth, truth) == 1
    assert metrics.recognised(truth.roll(1, dims=0), truth) == 0


def test_scenes_are_held_out_and_always_the_same():
    scenes = pictures.scenes(emoji=EMOJI)
    again = pictures.scenes.__wrapped__(emoji=EMOJI)
    assert again.prompts == scenes.prompts
    assert torch.equal(again.truth, scenes.truth)
    assert len(again.prompts) == pictures.SCENES
    names, colours = load_emoji(limit=EMOJI).names, list(COLOURS)
    for prompt in scenes.prompts:
        subject, _, place = prompt.partition(" on a")
        emoji = names.index(subject.removeprefix("an ").removeprefix("a "))
        colour = place.removeprefix("n").split()[0] if place else "white"
        assert is_held_out(emoji, colours.index(colour))


def test_the_figures_of_ideal_loras_meet_their_goals(truth):
    lines, cells = styled(line_art, truth), styled(pixel_art, truth)
    grey = metrics.luma(truth).expand_as(truth)
    found = lora.figures(
        truth,
        truth,
        {lora.NEGATIVE: (truth * 1.5 - 0.25).clamp(0, 1), 0.5: (truth + grey) / 2, 1.0: lines},
        {lora.NEGATIVE: 2 * truth - cells, 0.5: (truth + cells) / 2, 1.0: cells},
        styled(pixel_art, lines),
    )
    assert [figure.name for figure in found if figure.met is False] == []
    assert sum(figure.met is True for figure in found) == 9


def test_the_figures_of_loras_that_do_nothing_miss_their_goals(truth):
    same = {lora.NEGATIVE: truth, 0.5: truth, 1.0: truth}
    found = lora.figures(truth, truth, same, same, truth)
    assert [figure.name for figure in found if figure.met] == [
        "largest change of a pixel at weight 0"
    ]


def test_comic_style_distance_is_none_for_comics_and_one_for_plain_pictures(truth):
    comics = styled(comic_style, truth)
    assert comic.style_distance(comics, comics, truth) == 0
    assert comic.style_distance(truth, comics, truth) == pytest.approx(1)
    halfway = comic.style_distance(torch.lerp(truth, comics, 0.7), comics, truth)
    assert 0 < halfway < 1


def test_a_seam_is_seen_at_the_border_alone(truth):
    region = inpainting.REPLACE
    assert inpainting.seam(truth, region).abs().mean() < 0.01
    pasted = torch.lerp(truth, (truth + 0.1).clamp(0, 1), region.mask())
    assert inpainting.seam(pasted, region).mean() > inpainting.VISIBLE
    inner = region.grown(-20).mask()
    elsewhere = torch.lerp(truth, (truth + 0.1).clamp(0, 1), inner)
    assert inpainting.seam(elsewhere, region).mean() < inpainting.VISIBLE


def test_replacing_keeps_the_background():
    prompts = ("a dog on a red background", "pizza on an orange background", "a cat")
    assert inpainting.replaced(prompts) == (
        "pizza on a red background",
        "a cat on an orange background",
        "a dog",
    )


def test_a_sheet_has_a_cell_for_every_picture(tmp_path):
    path = tmp_path / "sheets" / "some.webp"
    red, blue = plain(1.0, 0.0, 0.0), plain(0.0, 0.0, 1.0)
    sheet.write_sheet(path, [("first", torch.cat([red, blue])), ("second", blue)], ["a", "b"])
    with Image.open(path) as written:
        step = sheet.CELL + sheet.GAP
        assert written.size == (sheet.ROW_LABEL + 2 * step, sheet.COLUMN_LABEL + 2 * step)
        middle = sheet.CELL // 2
        pixel = written.getpixel((sheet.ROW_LABEL + step + middle, sheet.COLUMN_LABEL + middle))
    assert pixel[2] > 200
    assert pixel[0] < 60


def test_a_long_label_breaks_at_a_space(tmp_path):
    broken = sheet._two_lines("a very long label that says it all and more")
    assert broken.count("\n") == 1
    assert all(len(line) <= sheet.LETTERS for line in broken.split("\n"))


def test_figures_are_written_with_their_command(tmp_path):
    found = [figures.Figure("saturation", 0.25, "< 0.5", True), figures.Figure("told", 3.0)]
    told = json.loads(figures.write("lora", found, tmp_path).read_text())
    assert told["command"] == "python -m demo.measure lora"
    assert told["figures"][0] == {
        "name": "saturation",
        "value": 0.25,
        "goal": "< 0.5",
        "met": True,
    }
    assert figures.table(found).splitlines()[2:] == [
        "| saturation | 0.25 | < 0.5 | yes |",
        "| told | 3 |  |  |",
    ]


def test_an_unknown_measure_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["lora", "colour"])
    assert ended.value.code == 2
    assert "no such measure: colour" in capsys.readouterr().err


def test_a_missed_goal_is_the_exit_status(monkeypatch, tmp_path, capsys):
    missed = [figures.Figure("seam after, repair", 0.5, "< 0.031", False)]
    monkeypatch.setattr(inpainting, "measure", lambda: missed)
    monkeypatch.setattr(command, "write", lambda name, found: None)
    assert command.main(["inpainting"]) == 1
    assert "| NO |" in capsys.readouterr().out


def test_an_embedding_must_come_nearer_to_its_target_than_the_words(truth):
    target = (far(truth * 2 - 1) + 1) / 2
    assert embedding.figures(truth, truth, target, target)[-1].met is True
    assert embedding.figures(truth, target, truth, target)[-1].met is False
    assert embedding.figures(truth, truth, truth, target)[-1].met is False
