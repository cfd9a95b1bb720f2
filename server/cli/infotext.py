"""A generation's settings from the parameters text that other programs write into pictures.

The form is AUTOMATIC1111's (`modules/infotext_utils.py`): the prompt, a line "Negative prompt:
...", and a last line "Steps: 20, Sampler: Euler a, ...". What a setting means there and has no
counterpart here is told, and never guessed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from deviceops.v1 import generation_pb2, sampling_pb2
from server.cli.choices import SPACINGS, UnusableOptions, choose
from server.cli.sampler import FRESH_NOISE

_NEGATIVE = "Negative prompt:"
_LEAST_ENTRIES = 3
"""So many settings make a line one of settings, and not of the prompt."""
_NAME = re.compile(r"\w[\w /φ-]{0,60}")
_LORA = re.compile(r"<lora:([^:<>]{1,256})((?::[^:<>]{0,64}){0,4})>")
_WEIGHTED = re.compile(r"[()\[\]]|\bBREAK\b")
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_SAMPLERS = {
    "DPM++ 2M": "DPM_SOLVER_MULTISTEP",
    "DPM++ 2S": "DPM_SOLVER_SINGLESTEP",
    "DPM++ SDE": "DPM_SOLVER_SDE",
    "DDIM": "DDIM",
    "Euler": "EULER_DISCRETE",
    "Euler a": "EULER_ANCESTRAL_DISCRETE",
    "DPM2": "KDPM2_DISCRETE",
    "DPM2 a": "KDPM2_ANCESTRAL_DISCRETE",
    "Heun": "HEUN_DISCRETE",
    "LMS": "LMS_DISCRETE",
    "UniPC": "UNIPC_MULTISTEP",
    "DEIS": "DEIS_MULTISTEP",
    "LCM": "LCM",
    "TCD": "TCD",
}
# DPM-Solver++ as a stochastic equation is an option here.
_STOCHASTIC = {"DPM++ 2M SDE": 2, "DPM++ 3M SDE": 3}
_OWN_SPACING = ("Automatic", "Model")
# Of the files and programs; what they name is read from other entries.
_OF_NO_EFFECT = frozenset(
    ("Version", "Model hash", "VAE hash", "Lora hashes", "Hashes", "RNG", "User")
)


@dataclass
class Reading:
    """What a text came to; `notes` say what could not be taken over, a sentence each."""

    settings: generation_pb2.GenerationSettings
    notes: list[str] = field(default_factory=list)


def read_infotext(text: str) -> Reading:
    """The settings that a parameters text states.

    Raises:
        UnusableOptions: A setting has no value of its kind; the message names it.
    """
    prompt, negative, entries = _split(text)
    reading = Reading(generation_pb2.GenerationSettings())
    settings = reading.settings
    settings.prompt = _without_loras(prompt, reading)
    if negative:
        settings.negative_prompt = negative
    if _WEIGHTED.search(settings.prompt) or _WEIGHTED.search(negative):
        settings.prompt_syntax = generation_pb2.PROMPT_SYNTAX_WEIGHTED
    for name, read in _READERS.items():
        value = entries.pop(name, None)
        if value is None:
            continue
        try:
            read(reading, value, entries)
        except UnusableOptions:
            raise
        except ValueError:  # also a number that its field cannot hold
            raise UnusableOptions(f"its {name} is {value[:40]!r}, which is none") from None
    left = [name for name in entries if name not in _OF_NO_EFFECT]
    if left:
        reading.notes.append(f"Not taken over, as nothing here is the same: {', '.join(left)}.")
    return reading


def _split(text: str) -> tuple[str, str, dict[str, str]]:
    *lines, last = text.strip().replace("\r\n", "\n").split("\n")
    entries = dict(_entries(last))
    if len(entries) < _LEAST_ENTRIES:
        lines, entries = [*lines, last], {}
    for number, line in enumerate(lines):
        if line.strip().startswith(_NEGATIVE):
            rest = [line.strip().removeprefix(_NEGATIVE), *lines[number + 1 :]]
            return _text(lines[:number]), _text(rest), entries
    return _text(lines), "", entries


def _text(lines: list[str]) -> str:
    return "\n".join(lines).strip()


def _entries(line: str) -> Iterator[tuple[str, str]]:
    """Names and values, which may be quoted, of a line of settings; one pass over it."""
    place = 0
    while (colon := line.find(":", place)) >= 0:
        name = line[place:colon].strip()
        if not _NAME.fullmatch(name):
            return
        start = colon + 1
        while line[start : start + 1] == " ":
            start += 1
        if line[start : start + 1] == '"':
            end = start + 1
            while end < len(line) and line[end] != '"':
                end += 2 if line[end] == "\\" else 1
            value, end = _unquoted(line[start : end + 1]), line.find(",", end + 1)
        else:
            end = line.find(",", start)
            value = line[start : end if end >= 0 else None].strip()
        yield name, value
        if end < 0:
            return
        place = end + 1


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except (ValueError, RecursionError):
        return text.strip('"')


def _without_loras(prompt: str, reading: Reading) -> str:
    for tag in _LORA.finditer(prompt):
        weights = [each for each in tag[2].split(":") if each]
        try:
            numbers = [_number(each) for each in weights]
        except ValueError:
            reading.notes.append(f"The weights of LoRA {tag[1]} are not numbers; 1 is used.")
            numbers = []
        # Of two the first is the text encoders'.
        lora = reading.settings.loras.add(model_id=tag[1], weight=1.0)
        if numbers:
            lora.weight = numbers[1] if len(numbers) > 1 else numbers[0]
        if len(numbers) > 1:
            lora.text_encoder_weight = numbers[0]
    return re.sub(r"[ ,]+$", "", _LORA.sub("", prompt)).strip()


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_Entries = dict[str, str]


def _sampler(reading: Reading, value: str, entries: _Entries) -> None:
    scheduler = reading.settings.scheduler
    name = value
    for spacing in ("Karras", "Exponential"):  # as before version 1.9
        if value.endswith(f" {spacing}"):
            name = value.removesuffix(f" {spacing}")
            entries.setdefault("Schedule type", spacing)
    if name in _STOCHASTIC:
        scheduler.scheduler = sampling_pb2.SCHEDULER_DPM_SOLVER_MULTISTEP
        scheduler.solver.algorithm = sampling_pb2.SOLVER_ALGORITHM_SDE_DPMSOLVER_PP
        scheduler.solver.order = _STOCHASTIC[name]
    elif name in _SAMPLERS:
        scheduler.scheduler = sampling_pb2.Scheduler.Value(f"SCHEDULER_{_SAMPLERS[name]}")
    else:
        reading.notes.append(
            f"There is no sampler {value[:40]!r} here; the model's own is used. Choose with "
            "--scheduler."
        )
    spread = entries.pop("Schedule type", "")
    if spread and spread not in _OWN_SPACING:
        try:
            scheduler.spacing = choose(
                sampling_pb2.SigmaSpacing, "SIGMA_SPACING_", spread, SPACINGS
            )
        except UnusableOptions:
            reading.notes.append(f"There is no schedule type {spread[:40]!r} here.")


def _size(reading: Reading, value: str, entries: _Entries) -> None:
    found = _SIZE.fullmatch(value)
    if found is None:
        raise ValueError(value)
    reading.settings.width, reading.settings.height = int(found[1]), int(found[2])


def _clip_skip(reading: Reading, value: str, entries: _Entries) -> None:
    reading.settings.clip_skip = int(value) - 1  # 1 is the last layer there


def _file_stem(value: str) -> str:
    return re.sub(r"\.(safetensors|ckpt|pt|pth|bin)$", "", value)


def _vae(reading: Reading, value: str, entries: _Entries) -> None:
    if value not in ("None", "Automatic"):
        reading.settings.vae_model_id = _file_stem(value)


def _embeddings(reading: Reading, value: str, entries: _Entries) -> None:
    names = [pair.split(":")[0].strip() for pair in value.split(",")]
    reading.settings.embedding_model_ids.extend(filter(None, names))


# What stable-diffusion-webui enlarges with that is no model, beside latents.
_OTHER_FILTERS = ("None", "Nearest")


def _second_pass(reading: Reading, value: str, entries: _Entries) -> None:
    second = reading.settings.second_pass
    second.scale = _number(value)
    strength = entries.pop("Denoising strength", "")
    if strength:
        second.strength = _number(strength)
    steps = entries.pop("Hires steps", "")
    if steps and int(steps):
        second.steps = int(steps)
    upscaler = entries.pop("Hires upscaler", "Latent")
    if upscaler == "Lanczos":
        second.upscale = generation_pb2.SECOND_PASS_UPSCALE_PIXELS
    elif upscaler == "Latent":
        second.upscale = generation_pb2.SECOND_PASS_UPSCALE_LATENT
    elif upscaler in _OTHER_FILTERS or upscaler.startswith("Latent ("):
        reading.notes.append(
            f"There is no upscaler {upscaler[:40]!r} here; latents are enlarged."
        )
    else:
        second.upscale = generation_pb2.SECOND_PASS_UPSCALE_MODEL
        second.postprocessor_id = _file_stem(upscaler)


def _strength(reading: Reading, value: str, entries: _Entries) -> None:
    if "Mask blur" in entries:
        reading.notes.append("It was inpainted; picture and mask are not in the file.")
        return
    reading.settings.image_to_image.strength = _number(value)
    reading.notes.append(
        "It was drawn from a picture, which is not in the file; give it, as with --set "
        "image_to_image.image=FILE."
    )


def _variation(reading: Reading, value: str, entries: _Entries) -> None:
    reading.settings.variation.seed = int(value)
    strength = entries.pop("Variation seed strength", "")
    if strength:
        reading.settings.variation.strength = _number(strength)


def _eta(reading: Reading, value: str, entries: _Entries) -> None:
    scheduler, eta = reading.settings.scheduler, _number(value)
    if scheduler.scheduler == sampling_pb2.SCHEDULER_DDIM:
        scheduler.ddim.eta = eta
    elif scheduler.scheduler in FRESH_NOISE:
        scheduler.ancestral.eta = eta
    else:
        reading.notes.append("Its Eta is not taken over: its sampler has none here.")


def _plain(path: str, kind: Callable[[str], float]) -> Callable[[Reading, str, _Entries], None]:
    """Reads a number into the field at a path."""
    *parents, name = path.split(".")

    def read(reading: Reading, value: str, entries: _Entries) -> None:
        message: Any = reading.settings
        for parent in parents:
            message = getattr(message, parent)
        setattr(message, name, kind(value))

    return read


def _model(reading: Reading, value: str, entries: _Entries) -> None:
    reading.settings.model_id = _file_stem(value)


# In this order: some look at what others have read, or take entries of theirs.
_READERS: dict[str, Callable[[Reading, str, _Entries], None]] = {
    "Steps": _plain("steps", int),
    "Sampler": _sampler,
    "CFG scale": _plain("guidance.scale", _number),
    "CFG rescale": _plain("guidance.rescale", _number),
    "Seed": _plain("seed", int),
    "Size": _size,
    "Model": _model,
    "VAE": _vae,
    "Clip skip": _clip_skip,
    "Eta": _eta,
    "Eta DDIM": _eta,
    "TI hashes": _embeddings,
    "Hires upscale": _second_pass,
    "Denoising strength": _strength,
    "Variation seed": _variation,
}
