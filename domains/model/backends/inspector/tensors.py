"""The tensors in what a pickle describes: which of them are the model, and by what names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domains.codec import one_line
from domains.model.backends.inspector.pickled import Holder, PickledTensor
from domains.model.backends.inspector.refusals import bad_structure
from domains.model.backends.safetensors_header import MAX_TENSORS

_DEPTH = 8
_MOST_SHOWN = 16
# What trainers wrap weights in; the first that is there (spandrel/__helpers/canonicalize.py).
_WRAPPERS = (
    "state_dict",
    "params_ema",
    "params-ema",
    "params",
    "model_state_dict",
    "model",
    "net",
)
_EMBEDDING = "string_to_param"
_EMBEDDING_NAME = "emb_params"  # as safetensors of textual inversions call it


def tensors_within(value: Any) -> Iterator[PickledTensor]:
    """Every tensor, wherever it is; each table and list is looked through once."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, PickledTensor):
            yield value
            continue
        value = value.parameters if isinstance(value, Holder) else value
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def state_dict(value: Any) -> tuple[dict[str, PickledTensor], list[str]]:
    """The model's tensors by name, and what lies beside them and is left out, in words.

    Tables in tables become names with dots. What trainers keep beside the weights (steps,
    optimisers, options) is left out.

    Raises:
        FailedPrecondition: MODEL_STRUCTURE_INVALID where there are none, or something else
            stands where a tensor should.
    """
    left_out: list[str] = []
    table = _unwrapped(value, left_out)
    found: dict[str, PickledTensor] = {}
    _collect(table, (), found, left_out, set())
    if not found:
        raise bad_structure("holds no tensors")
    if len(left_out) > _MOST_SHOWN:
        left_out[_MOST_SHOWN - 1 :] = [f"{len(left_out) - _MOST_SHOWN + 1} more"]
    return found, left_out


def _unwrapped(value: Any, left_out: list[str]) -> dict[Any, Any]:
    if isinstance(value, PickledTensor):
        return {_EMBEDDING_NAME: value}
    value = value.parameters if isinstance(value, Holder) else value
    if not isinstance(value, dict):
        raise bad_structure("holds no table of tensors")
    if _EMBEDDING in value:
        left_out += _shown(key for key in value if key != _EMBEDDING)
        return _embedding(value[_EMBEDDING])
    for name in _WRAPPERS:
        inner = value.get(name)
        if isinstance(inner, dict) and next(tensors_within(inner), None) is not None:
            left_out += _shown(key for key in value if key != name)
            return _unwrapped(inner, left_out) if name == "state_dict" else inner
    return value


def _embedding(value: Any) -> dict[Any, Any]:
    """A textual inversion: one word's rows."""
    words = value.parameters if isinstance(value, Holder) else value
    if not isinstance(words, dict) or len(words) != 1:
        raise bad_structure("holds embeddings of more than one word")
    return {_EMBEDDING_NAME: next(iter(words.values()))}


def _collect(
    table: dict[Any, Any],
    path: tuple[str, ...],
    found: dict[str, PickledTensor],
    left_out: list[str],
    seen: set[int],
) -> None:
    if len(path) > _DEPTH or id(table) in seen:
        raise bad_structure("holds tables in tables that no trainer writes")
    seen.add(id(table))
    for key, value in table.items():
        name = ".".join((*path, key if isinstance(key, str) else str(key)))
        value = value.parameters if isinstance(value, Holder) else value
        if isinstance(value, PickledTensor):
            if name in found or len(found) >= MAX_TENSORS:
                raise bad_structure("has too many tensors, or two of one name", tensor=name)
            found[name] = value
        elif isinstance(value, dict) and next(tensors_within(value), None) is not None:
            _collect(value, (*path, str(key)), found, left_out, seen)
        elif _names_a_tensor(key):
            raise bad_structure("has something else where a tensor should be", tensor=name)
        else:
            left_out += _shown([name])


def _names_a_tensor(key: Any) -> bool:
    """Layers have dotted names that end in what the numbers are for."""
    return isinstance(key, str) and key.endswith((".weight", ".bias"))


def _shown(keys: Any) -> list[str]:
    return [one_line(str(key), 64) for key in keys]
