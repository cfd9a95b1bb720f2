"""Which files of a folder or repository make up a model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import PurePosixPath

from deviceops.v1 import model_info_pb2
from server.cli.choices import UnusableOptions

INDEX_FILE = "model_index.json"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_TEXTS = (".json", ".txt", ".model")
_WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|model|pytorch_model)(?P<variant>\.[a-z0-9_]+)?"
    r"(-\d+-of-\d+)?\.(?P<ending>safetensors|bin)"
)
_SHARD_INDEX = re.compile(r".*\.(safetensors|bin)\.index(\.[a-z0-9_]+)?\.json")
_HALF = ".fp16"


def needed(
    names: Collection[str], read: Callable[[str], bytes], *, pickles: bool = False
) -> list[str]:
    """The files that a model of several files consists of.

    Of weights in several data types one set is taken, in half precision where it is there:
    devices compute in it. Pictures, scripts, checkpoints beside a folder and other
    libraries' weights are left.

    Args:
        names: Paths from the folder on, with slashes.
        read: Gives a small file's content.
        pickles: Whether weights may be pickles where there are no others.

    Raises:
        UnusableOptions: They are no model, or leave open which of several is meant.
    """
    if INDEX_FILE not in names:
        return _network(names, pickles=pickles)
    chosen = [name for name in names if name in (INDEX_FILE, "README.md", "LICENSE.md")]
    for component in _components(read(INDEX_FILE)):
        inside = [name for name in names if PurePosixPath(name).parts[:-1] == (component,)]
        chosen += _texts(inside) + _weights(inside, pickles=pickles)
    return sorted(chosen)


def format_of(names: Collection[str]) -> int:
    """What the contract calls a model of these files."""
    if INDEX_FILE in names:
        return model_info_pb2.MODEL_FORMAT_DIFFUSERS_FOLDER
    if any(name.lower().endswith(".safetensors") for name in names):
        return model_info_pb2.MODEL_FORMAT_SAFETENSORS
    return model_info_pb2.MODEL_FORMAT_PICKLE


def id_for(name: str) -> str:
    """An id like a name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:100].strip("-._") or "model"


def _components(index: bytes) -> list[str]:
    try:
        stated = json.loads(index)
        return [
            name
            for name, what in stated.items()
            if not name.startswith("_") and isinstance(what, list) and any(what)
        ]
    except (ValueError, AttributeError) as error:
        raise UnusableOptions(f"its {INDEX_FILE} cannot be read: {error}") from error


def _network(names: Collection[str], *, pickles: bool) -> list[str]:
    """A network of its own: its weights and their configuration."""
    top = [name for name in names if "/" not in name]
    endings = (".safetensors", *PICKLES) if pickles else (".safetensors",)
    loose = [name for name in top if name.lower().endswith(endings)]
    weights = _weights(top, pickles=pickles)
    if "config.json" in top and len(weights) == 1:
        return ["config.json", *weights]
    if len(loose) == 1:
        return loose
    if not loose:
        raise UnusableOptions(
            "there is no model_index.json and no safetensors file: this is no model that can "
            "be brought in; pickles need --allow-pickles and --file"
        )
    raise UnusableOptions("name one with --file: " + ", ".join(sorted(loose)))


def _texts(names: Iterable[str]) -> list[str]:
    return [n for n in names if n.endswith(_TEXTS) and not _SHARD_INDEX.fullmatch(n)]


def _weights(names: Iterable[str], *, pickles: bool) -> list[str]:
    """One set of weights, with the index of its parts where it has some."""
    sets: dict[tuple[bool, bool], list[str]] = {}
    listed = list(names)
    for name in listed:
        found = _WEIGHTS.fullmatch(PurePosixPath(name).name)
        if found is None or found["variant"] not in (None, _HALF):
            continue
        pickle = found["ending"] == "bin"
        if pickles or not pickle:
            sets.setdefault((pickle, found["variant"] is None), []).append(name)
    if not sets:
        return []
    pickle, whole = min(sets)  # safetensors before pickles, half before whole
    ending = "bin" if pickle else "safetensors"
    mark = "" if whole else _HALF
    index = f".{ending}.index{mark}.json"
    return sets[pickle, whole] + [name for name in listed if name.endswith(index)]
