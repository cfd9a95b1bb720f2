"""Model folders damaged one value at a time, the same for the same seed."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domains.inference.types import Scheduler
from domains.model.backends.bounds import (
    Bound,
    Flag,
    Many,
    Number,
    OrNull,
    Whole,
    Words,
)
from domains.model.backends.families.clip import CLIP_TEXT
from domains.model.backends.families.family import INDEX
from domains.model.backends.families.schedulers import SCHEDULER
from domains.model.backends.families.tokenizer import TOKENIZER
from domains.model.backends.families.unet import UNET
from domains.model.backends.families.vae import VAE

_TABLES: dict[str, Mapping[str, Bound]] = {
    "model_index": INDEX.keys,
    "scheduler": SCHEDULER.keys,
    "text_encoder": CLIP_TEXT.bounds.keys,
    "tokenizer": TOKENIZER.keys,
    "unet": UNET.bounds.keys,
    "vae": VAE.bounds.keys,
}
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 5, 7, 16, 63, 64, 77, 255, 1 << 15, 1 << 31, 10**40),
    *(0.0, -0.0, 1e-9, 0.5, 1.0, -0.5, 1.5, 1e9, 1e300, float("nan"), float("inf")),
    *("", "x", "silu", "linear", "epsilon", "None", "../..", "\0", "\N{GRINNING FACE}"),
    *("x" * 1000, "<|endoftext|>", "__import__"),
    *([], [1], [0], ["silu"], [[1]], [1, 2, 3], [None], [[[]]], {}, {"a": 1}, {"content": "x"}),
)


@dataclass(frozen=True)
class Mutation:
    """One damage: which file of which model, and a word on what was done."""

    model: str
    file: str
    what: str
    content: bytes


class Mutator:
    """Damages copies of sound models.

    Args:
        models: Sound folders by name.
        seed: Decides everything.
    """

    def __init__(self, models: Mapping[str, Path], seed: int) -> None:
        self._random = random.Random(seed)
        self._sound = {
            name: {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
            for name, folder in models.items()
        }

    def mutations(self, count: int) -> Iterator[Mutation]:
        """So many damages, of all kinds of files alike."""
        for _ in range(count):
            model = self._random.choice(sorted(self._sound))
            files = self._sound[model]
            file = self._random.choice(sorted(files))
            what, content = self._damage(file, files[file])
            yield Mutation(model, file, what, content)

    def _damage(self, file: str, sound: bytes) -> tuple[str, bytes]:
        if file.endswith(".safetensors"):
            return self._header(sound)
        if not file.endswith(".json") or self._random.random() < 0.05:
            return self._bytes(sound)
        parsed = json.loads(sound)
        what = self._value(file, parsed)
        return what, json.dumps(parsed).encode()

    def _value(self, file: str, parsed: dict[str, Any]) -> str:
        """Change, add or remove a key; half of the time to a value within its bound."""
        table = _TABLES.get(file.split("/")[0].split(".")[0].removesuffix("_2"), {})
        if file.endswith(("tokenizer.json", "vocab.json")):
            table = {}
        place, key = self._place(parsed, sorted({*parsed, *table}))
        if self._random.random() < 0.1 and key in place:
            del place[key]
            return f"without {key}"
        bound = table.get(key) if place is parsed else None
        if bound is not None and self._random.random() < 0.5:
            place[key] = self._within(bound)
        elif key in place and self._random.random() < 0.3:
            place[key] = self._varied(place[key])
        else:
            place[key] = self._random.choice(_ODD)
        return f"{key}={place[key]!r:.60}"

    def _place(self, parsed: dict[str, Any], keys: list[str]) -> tuple[dict[str, Any], str]:
        """Where to change: mostly at the top, at times within."""
        place, key = parsed, self._random.choice(keys)
        while isinstance(place.get(key), dict) and place[key] and self._random.random() < 0.8:
            place = place[key]
            # A vocabulary is long; its first keys are as good as others.
            key = self._random.choice([*place][:50])
        return place, key

    def _within(self, bound: Bound) -> Any:
        pick = self._random
        match bound:
            case OrNull(bound=inner):
                return None if pick.random() < 0.1 else self._within(inner)
            case Whole(least=least, greatest=greatest):
                return pick.choice(
                    [least, greatest, pick.randint(least, max(least, min(greatest, 16)))]
                )
            case Number(low=low, high=high):
                low, high = max(low, -1e3), min(high, 1e3)
                return pick.choice([low, high, pick.uniform(low, high), low + 1e-6])
            case Flag():
                return pick.random() < 0.5
            case Words(known=known):
                return pick.choice(sorted(known))
            case Many(each=each, least=least, most=most):
                count = pick.choice([least, min(most, 2), min(most, 3), min(most, 4)])
                return [self._within(each) for _ in range(max(count, least))]
            case _:
                return pick.choice(_ODD)

    def _varied(self, value: Any) -> Any:
        pick = self._random
        if isinstance(value, bool) or value is None:
            return pick.choice([not value, 0, "true", [value]])
        if isinstance(value, int | float):
            return pick.choice([value + 1, value * 2, -value, value / 2, str(value), [value]])
        if isinstance(value, str):
            return pick.choice([value + "x", value[:-1], [value], value.upper()])
        if isinstance(value, list):
            return pick.choice([value[:-1], [*value, *value[:1]], value[::-1], {"a": value}])
        return list(value)

    def _bytes(self, sound: bytes) -> tuple[str, bytes]:
        at = self._random.randrange(max(len(sound), 1))
        kind = self._random.randrange(4)
        if kind == 0:
            return f"cut at {at}", sound[:at]
        if kind == 1:
            return f"a byte flipped at {at}", sound[:at] + b"\xff" + sound[at + 1 :]
        if kind == 2:
            end = sound.find(b"\n", at)
            return f"a line less at {at}", sound[:at] + sound[end + 1 :]
        return "doubled", sound + sound

    def _header(self, sound: bytes) -> tuple[str, bytes]:
        (length,) = struct.unpack("<Q", sound[:8])
        header = json.loads(sound[8 : 8 + length])
        name = self._random.choice(sorted(header))
        entry = header[name]
        match self._random.randrange(4):
            case 0:
                entry["dtype"] = self._random.choice(
                    ["F16", "I16", "U16", "BF16", "F32", "I32"]
                )
            case 1:
                header[name + "x"] = header.pop(name)
            case 2 if "shape" in entry:
                entry["shape"] = entry["shape"][::-1]
            case _:
                entry[self._random.choice(["shape", "dtype"])] = self._random.choice(_ODD)
        text = json.dumps(header).encode()
        data = sound[8 + length :]
        return f"header of {name}", struct.pack("<Q", len(text)) + text + data


class Bench:
    """Folders that are damaged and made sound again.

    Args:
        models: Sound folders by name.
        work: Where the copies lie.
    """

    def __init__(self, models: Mapping[str, Path], work: Path) -> None:
        self._models = models
        self._work = work
        for name, folder in models.items():
            shutil.copytree(folder, work / name)

    def apply(self, mutation: Mutation) -> Path:
        """The model with that damage."""
        (self._work / mutation.model / mutation.file).write_bytes(mutation.content)
        return self._work / mutation.model

    def restore(self, mutation: Mutation) -> None:
        """The model as it was."""
        sound = self._models[mutation.model] / mutation.file
        shutil.copyfile(sound, self._work / mutation.model / mutation.file)


def scheduler_of(folder: Path) -> Scheduler:
    """The scheduler that a request which leaves it open gets."""
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_bytes())
    known = {scheduler.value: scheduler for scheduler in Scheduler}
    return known.get(config.get("_class_name"), Scheduler.DPM_SOLVER_MULTISTEP)
