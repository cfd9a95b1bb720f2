"""The kernels of `group_norm`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

# Channels of a tile, and pixels: rows of 128 bytes in half precision.
_CHANNELS, _PIXELS = 64, 32
# A device with a hundred multiprocessors is filled several times over.
_PROGRAMS = 528
# Sums that one program puts together.
_MOST_SUMS = 8192


@triton.jit
def _sum_up(
    sample, sums, pixels, channels, each,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sums of a part's pixels for each channel, and of their squares.

    Of differences to the first pixel, so that squares lose nothing against a great mean.
    """
    part, picture = tl.program_id(0), tl.program_id(2)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = channel < channels
    own = sample + picture.to(tl.int64) * pixels * channels
    first = tl.load(own + channel, mask=there, other=0.0).to(tl.float32)
    plain = tl.zeros((PIXELS, CHANNELS), tl.float32)
    square = tl.zeros((PIXELS, CHANNELS), tl.float32)
    end = min(part * each + each, pixels)
    for begin in range(part * each, end, PIXELS):
        pixel = begin + tl.arange(0, PIXELS)
        mask = (pixel < end)[:, None] & there[None, :]
        value = tl.load(
            own + pixel[:, None] * channels + channel[None, :], mask=mask, other=0.0
        )
        apart = tl.where(mask, value.to(tl.float32) - first[None, :], 0.0)
        plain += apart
        square += apart * apart
    at = sums + ((picture * tl.num_programs(0) + part) * 2) * channels + channel
    tl.store(at, tl.sum(plain, 0), mask=there)
    tl.store(at + channels, tl.sum(square, 0), mask=there)


@triton.jit
def _settle(
    sample, sums, added, weight, bias, factors,
    pixels, channels, parts, groups, eps, added_step,
    PARTS: tl.constexpr, EACH: tl.constexpr,
    ADDED: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Of a group's sums a factor and a summand for each of its channels."""
    group, picture = tl.program_id(0), tl.program_id(1)
    each = channels // groups
    lane = tl.arange(0, EACH)
    channel, there = group * each + lane, lane < each
    part = tl.arange(0, PARTS)
    at = sums + ((picture * parts + part) * 2)[:, None] * channels + channel[None, :]
    mask = (part < parts)[:, None] & there[None, :]
    offset = tl.sum(tl.load(at, mask=mask, other=0.0), 0) / pixels
    variance = tl.sum(tl.load(at + channels, mask=mask, other=0.0), 0) / pixels
    variance -= offset * offset
    first = sample + picture.to(tl.int64) * pixels * channels + channel
    before = tl.zeros((EACH,), tl.float32)
    if ADDED:
        at_added = added + picture * added_step + channel
        before = tl.load(at_added, mask=there, other=0.0).to(tl.float32)
    mean = tl.load(first, mask=there, other=0.0).to(tl.float32) + offset + before
    whole = tl.sum(tl.where(there, mean, 0.0), 0) / each
    apart = tl.where(there, mean - whole, 0.0)
    spread = tl.sum(tl.where(there, variance, 0.0) + apart * apart, 0) / each
    factor = tl.zeros((EACH,), tl.float32) + 1.0 / tl.sqrt(tl.maximum(spread, 0.0) + eps)
    if WEIGHT:
        factor *= tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)
    summand = (before - whole) * factor
    if BIAS:
        summand += tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    at = factors + picture * 2 * channels + channel
    tl.store(at, factor, mask=there)
    tl.store(at + channels, summand, mask=there)


@triton.jit
def _apply(
    sample, factors, out, pixels, channels,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr, ACTIVATED: tl.constexpr,
):  # fmt: skip
    """Every number times its channel's factor and plus its summand."""
    picture = tl.program_id(2)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = channel < channels
    at = factors + picture * 2 * channels + channel
    factor = tl.load(at, mask=there, other=0.0)
    summand = tl.load(at + channels, mask=there, other=0.0)
    place = picture.to(tl.int64) * pixels * channels
    place += pixel[:, None] * channels + channel[None, :]
    mask = (pixel < pixels)[:, None] & there[None, :]
    value = tl.load(sample + place, mask=mask, other=0.0).to(tl.float32)
    value = value * factor[None, :] + summand[None, :]
    if ACTIVATED:
        value = value * tl.sigmoid(value)
    tl.store(out + place, value, mask=mask)


def run(
    sample: torch.Tensor,
    added: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    groups: int,
    eps: float,
    activated: bool,
) -> torch.Tensor:
    """See `group_norm`."""
    sample = sample.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = sample.shape
    pixels, across = height * width, triton.cdiv(channels, _CHANNELS)
    lanes = triton.next_power_of_2(channels // groups)
    most = min(_MOST_SUMS // lanes, triton.cdiv(pixels, _PIXELS))
    parts = max(1, min(most, triton.cdiv(_PROGRAMS, across * batch)))
    each = triton.cdiv(triton.cdiv(pixels, parts), _PIXELS) * _PIXELS
    parts = triton.cdiv(pixels, each)
    out = torch.empty_like(sample, memory_format=torch.channels_last)
    sums = sample.new_empty(batch, parts, 2, channels, dtype=torch.float32)
    factors = sample.new_empty(batch, 2, channels, dtype=torch.float32)
    _sum_up[parts, across, batch](
        sample, sums, pixels, channels, each, PIXELS=_PIXELS, CHANNELS=_CHANNELS
    )
    _settle[groups, batch](
        *(sample, sums, added, weight, bias, factors),
        *(pixels, channels, parts, groups, eps),
        0 if added is None or added.shape[0] == 1 else added.stride(0),
        PARTS=triton.next_power_of_2(parts),
        EACH=lanes,
        ADDED=added is not None,
        WEIGHT=weight is not None,
        BIAS=bias is not None,
    )
    _apply[triton.cdiv(pixels, _PIXELS), across, batch](
        *(sample, factors, out, pixels, channels),
        PIXELS=_PIXELS,
        CHANNELS=_CHANNELS,
        ACTIVATED=activated,
    )
    return out
