"""How much memory a model and a picture that it draws take; worker and front agree on it."""

from __future__ import annotations

from collections.abc import Iterable

# Left for one tensor on its way and for everything else that runs on the machine.
SPARE_BYTES = 512 << 20
# A VAE's last block works at full size with three copies of its input at once, and its
# convolutions lay out two more for themselves: 4.9 to 5.4 were measured on CUDA, 4.7 on a
# processor (bench/results/cuda-estimates.md).
_COPIES = 5
# Times the UNet's first channels at full size: its feed-forward networks, where the first block
# attends, and its skipped connections, where it does not.
STEP_ATTENDING, STEP_PLAIN = 26, 16
# The same while it has what ControlNets add to its blocks, of however many: they are called
# before it, one after another, each taking less, and what they give is added up.
CONTROLLED_ATTENDING, CONTROLLED_PLAIN = 33, 22
# The same of a union of ControlNets while it is called: with each picture, once for every row
# and once as what it made of it, and with what others gave before it.
UNION, UNION_PICTURE, GIVEN_BEFORE = 20, 1.6, 5


def picture_bytes(channels: int, width: int, height: int, number_bytes: int) -> int:
    """What drawing one picture takes beside the weights: an estimate.

    Decoding takes the most: the VAE's last block at full size, which gets as many channels
    as the block before it has. Denoising, at an eighth of the edge, takes less.

    Args:
        channels: Of the VAE's last block but one.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        number_bytes: Size of one number of those that the VAE computes in.
    """
    return _COPIES * channels * width * height * number_bytes


def making_way(
    needed: int, free: int, idle: Iterable[tuple[str, int]]
) -> tuple[tuple[str, ...], bool]:
    """Which models would go for a model that needs so many bytes, and whether it fits then.

    Args:
        needed: Its weights and a picture.
        free: What is free now.
        idle: Ids and bytes of the models that no work uses, the least recently used first.
    """
    going: list[str] = []
    for model_id, size in idle:
        if needed + SPARE_BYTES <= free:
            break
        going.append(model_id)
        free += size
    return tuple(going), needed + SPARE_BYTES <= free


def step_bytes(
    width: int,
    latents: int,
    *,
    attends_at_full_size: bool,
    rows: int,
    number: int,
    controlled: bool = False,
    union_pictures: int = 0,
    several: bool = False,
) -> int:
    """What a call of the UNet takes beside the weights.

    Args:
        width: Its first channels.
        latents: Of the picture: rows times columns.
        attends_at_full_size: Whether its first block attends.
        rows: Of the batch.
        number: Bytes of one number.
        controlled: Whether ControlNets work beside it.
        union_pictures: Of the union among them that takes most at once; 0 without one.
        several: Whether they are called more than once.
    """
    factor: float
    if controlled:
        factor = CONTROLLED_ATTENDING if attends_at_full_size else CONTROLLED_PLAIN
    else:
        factor = STEP_ATTENDING if attends_at_full_size else STEP_PLAIN
    if union_pictures:
        factor = max(factor, union_factor(union_pictures, several=several))
    return int(factor * width * latents * rows * number)


def union_factor(pictures: int, *, several: bool) -> float:
    """What a call of a union takes, times the UNet's first channels at full size.

    Args:
        pictures: That it takes.
        several: Whether there are calls beside it.
    """
    return UNION + UNION_PICTURE * pictures + (GIVEN_BEFORE if several else 0)
