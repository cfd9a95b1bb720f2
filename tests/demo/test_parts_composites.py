"""Composites show what their prompts say, and never what is held out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import COLOURS, WHITE, EmojiSet, is_held_out, load_emoji

COUNT = 64


@pytest.fixture(scope="module")
def emoji() -> EmojiSet:
    return load_emoji(limit=48)


@pytest.fixture(scope="module")
def red_squares() -> EmojiSet:
    """Forty opaque red squares of half the picture's side, transparent around."""
    picture = torch.zeros(4, 256, 256, dtype=torch.uint8)
    picture[0, 64:192, 64:192] = 255
    picture[3, 64:192, 64:192] = 255
    return EmojiSet(tuple(f"thing {row}" for row in range(40)), picture.repeat(40, 1, 1, 1))


def _pairs(emoji: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Whether each drawn (emoji, colour) is held out; rows without a second emoji left out."""
    both = colours[:, None].expand_as(emoji)
    return is_held_out(emoji, both)[emoji >= 0]


def test_training_never_draws_a_held_out_combination_and_the_other_source_draws_no_other(
    red_squares: EmojiSet,
) -> None:
    seen = Compositor(red_squares, device="cpu").draw(200)
    unseen = Compositor(red_squares, device="cpu", held_out=True).draw(200)

    assert not _pairs(seen.emoji, seen.colours).any()
    assert _pairs(unseen.emoji, unseen.colours).all()


def test_one_combination_in_16_is_held_out_for_every_emoji_and_colour_alike() -> None:
    emoji, colours = torch.meshgrid(torch.arange(1015), torch.arange(16), indexing="ij")
    held = is_held_out(emoji, colours)

    assert held.float().mean().item() == pytest.approx(1 / 16, rel=0.1)
    assert held.float().mean(dim=0).max() < 0.15
    assert held.float().mean(dim=0).min() > 0.01
    assert held.sum(dim=1).max() <= 6
    assert is_held_out(7, 3) == bool(held[7, 3])


def test_the_corners_have_the_colour_that_the_prompt_names(emoji: EmojiSet) -> None:
    drawn = Compositor(emoji, device="cpu", seed=5).draw(COUNT)

    for pixels, prompt, colour in zip(drawn.pixels, drawn.prompts, drawn.colours, strict=True):
        name = list(COLOURS)[int(colour)]
        corner = ((pixels[:, 1, 1] + 1) * 127.5).round().tolist()
        assert corner == list(COLOURS[name])
        if "background" in prompt:
            assert prompt.endswith(f" {name} background")
        else:
            assert int(colour) == WHITE


def test_a_prompt_names_every_emoji_in_the_picture(emoji: EmojiSet) -> None:
    drawn = Compositor(emoji, device="cpu", seed=6).draw(COUNT)

    for prompt, (first, second) in zip(drawn.prompts, drawn.emoji.tolist(), strict=True):
        assert emoji.names[first] in prompt
        assert (second >= 0) == (" and a" in prompt.replace(emoji.names[first], "", 1))
        if second >= 0:
            assert emoji.names[second] in prompt
    assert any(prompt.startswith(("a ", "an ")) for prompt in drawn.prompts)
    assert any("background" not in prompt for prompt in drawn.prompts)


def _pure_red(pixels: torch.Tensor) -> torch.Tensor:
    """Where the squares are, bool [256, 256]; the background called red is another red."""
    return (pixels[0] > 0.95) & (pixels[1] < -0.95) & (pixels[2] < -0.95)


def test_small_emoji_are_small_and_pairs_lie_left_and_right(red_squares: EmojiSet) -> None:
    drawn = Compositor(red_squares, device="cpu", seed=2).draw(COUNT)

    seen = set()
    for pixels, prompt in zip(drawn.pixels, drawn.prompts, strict=True):
        red = _pure_red(pixels)
        side = (red.float().mean().item() * 4) ** 0.5  # the squares fill a quarter
        if " and " in prompt:
            seen.add("pair")
            assert red[:, :128].any()
            assert red[:, 128:].any()
            assert not red[:, 126:130].any()
        elif "small" in prompt:
            seen.add("small")
            assert 0.28 < side < 0.5
        else:
            seen.add("large")
            assert 0.68 < side < 1.0
    assert seen == {"pair", "small", "large"}


def test_single_draws_one_large_centred_emoji_each(red_squares: EmojiSet) -> None:
    drawn = Compositor(red_squares, device="cpu").draw(8, single=True)

    assert (drawn.emoji[:, 1] == -1).all()
    for pixels in drawn.pixels:
        down, across = _pure_red(pixels).nonzero().float().mean(dim=0).tolist()
        assert down == pytest.approx(127.5, abs=1)
        assert across == pytest.approx(127.5, abs=1)


def test_a_seed_gives_the_same_pictures_and_another_seed_others(emoji: EmojiSet) -> None:
    first, again = (Compositor(emoji, device="cpu", seed=1).draw(4) for _ in range(2))
    other = Compositor(emoji, device="cpu", seed=2).draw(4)

    assert torch.equal(first.pixels, again.pixels)
    assert first.prompts == again.prompts
    assert not torch.equal(first.pixels, other.pixels)


def test_a_fine_pattern_shrinks_to_its_mean_without_moire() -> None:
    """A checkerboard of single pixels, halved or more, is an even gray."""
    picture = torch.zeros(4, 256, 256, dtype=torch.uint8)
    picture[:, ::2, ::2] = 255
    picture[:, 1::2, 1::2] = 255
    picture[3] = 255
    checks = EmojiSet(("checks",) * 40, picture.repeat(40, 1, 1, 1))

    drawn = Compositor(checks, device="cpu", seed=3).draw(24)

    shrunk = [row for row, p in enumerate(drawn.prompts) if "small" in p or " and " in p]
    assert len(shrunk) > 3
    for row in shrunk:
        pixels = (drawn.pixels[row] + 1) * 127.5
        colour = torch.tensor(list(COLOURS.values())[int(drawn.colours[row])])
        background = (pixels - colour[:, None, None]).abs().amax(dim=0) < 2
        gray = (pixels - 128).abs().amax(dim=0) < 2
        assert gray.float().mean() > 0.08
        assert (background | gray).float().mean() > 0.97  # the rest is edges


def test_transparent_edges_bring_no_dark_fringe(red_squares: EmojiSet) -> None:
    """The squares are black where they are transparent: only premultiplying keeps that out."""
    drawn = Compositor(red_squares, device="cpu", seed=4).draw(32)
    red = list(COLOURS).index("red")
    rows = (drawn.colours == red).nonzero()[:, 0]

    assert len(rows) > 0
    assert ((drawn.pixels[rows, 0] + 1) * 127.5).min() >= COLOURS["red"][0] - 1


def test_an_emoji_set_that_allows_no_picture_is_refused() -> None:
    nothing = EmojiSet((), torch.zeros(0, 4, 256, 256, dtype=torch.uint8))

    with pytest.raises(ValueError, match="emoji: 0 emoji allow no picture"):
        Compositor(nothing, device="cpu")


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (128, 256)).save(tmp_path / "odd.png")
    (tmp_path / "captions.json").write_text('[{"name": "odd", "image": "odd.png"}]')

    with pytest.raises(ValueError, match=r"odd.png: expected 256x256, got \(128, 256\)"):
        load_emoji(tmp_path)
