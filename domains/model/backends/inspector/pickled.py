"""What a pickle of weights is made of: storages, tensors, and names that stand for themselves.

The names are those that `torch.save` writes for tensors (torch/_utils.py, torch/storage.py),
and a few that trainers leave beside them. A name becomes a value of ours; nothing is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from domains.model.backends.inspector.refusals import bad_structure, unsafe
from domains.model.backends.safetensors_header import ELEMENT_BITS

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Named:
    """A class or function of a library, by name only."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file: `count` of type `data_type`, found by `key`.

    `start` is the first one of a view into another storage, as old files have them.
    """

    key: str
    data_type: str
    count: int
    start: int = 0


@dataclass(frozen=True)
class PickledTensor:
    """A window on a storage; `offset` and `strides` count elements."""

    storage: Storage
    data_type: str
    offset: int
    shape: Shape
    strides: Shape


class Opaque:
    """Something that was made, that is harmless, and that is no weights; `what` is in words."""

    def __init__(self, what: str) -> None:
        self.what = what


class Holder:
    """A module that holds parameters in its state."""

    def __init__(self) -> None:
        self.parameters: dict[Any, Any] = {}


_STORAGES: Mapping[str, str] = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "UntypedStorage": "U8",
}
_DATA_TYPES: Mapping[str, str] = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float64": "F64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
}


def storage_type(name: object) -> str | None:
    """The element type of a storage class; None where it is no such class."""
    if isinstance(name, Named) and name.module in ("torch", "torch.storage"):
        return _STORAGES.get(name.name)
    return None


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_more: Any) -> PickledTensor:
    if not isinstance(storage, Storage):
        raise bad_structure("has a tensor without numbers")
    return _window(storage, storage.data_type, offset, size, stride)


def _typed_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    _grad: Any,
    _hooks: Any,
    kind: Any,
    *_m: Any,
) -> PickledTensor:
    named = isinstance(kind, Named) and kind.module == "torch"
    data_type = _DATA_TYPES.get(kind.name) if named else None
    if not isinstance(storage, Storage) or data_type is None:
        raise bad_structure("has a tensor of an unknown type")
    size_of = ELEMENT_BITS[data_type] // 8
    whole = storage.count * ELEMENT_BITS[storage.data_type] // 8
    typed = Storage(storage.key, data_type, whole // size_of)
    return _window(typed, data_type, offset, size, stride)


def _window(
    storage: Storage, data_type: str, offset: Any, size: Any, stride: Any
) -> PickledTensor:
    numbers = (
        (*size, *stride) if isinstance(size, tuple) and isinstance(stride, tuple) else (-1,)
    )
    if any(type(n) is not int or n < 0 for n in (offset, *numbers)) or len(size) != len(stride):
        raise bad_structure("has a tensor of impossible shape")
    return PickledTensor(storage, data_type, offset, size, stride)


def _first(value: Any, *_rest: Any) -> Any:
    return value


def _size(value: Any = ()) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else ()


def _mapping(items: Any = (), *_rest: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    if isinstance(items, dict):
        return dict(items)
    for pair in items if isinstance(items, list | tuple) else ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise bad_structure("has a table that is none")
        put(made, pair[0], pair[1])
    return made


def _holder(*_arguments: Any) -> Holder:
    return Holder()


def _counts(items: Any = (), *_rest: Any) -> dict[Any, Any]:
    return dict(items) if isinstance(items, dict) else {}


def _opaque(what: str) -> Callable[..., Opaque]:
    return lambda *_arguments: Opaque(what)


_CALLS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): lambda *_factory: {},
    ("collections", "Counter"): _counts,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch", "Size"): _size,
    ("torch", "device"): _opaque("a device"),
    ("torch.nn.modules.container", "ParameterDict"): _holder,
    ("torch._utils", "_rebuild_qtensor"): _opaque("a quantised tensor"),
    ("torch._utils", "_rebuild_sparse_tensor"): _opaque("a sparse tensor"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _opaque("a tensor without numbers"),
    ("torch.serialization", "_get_layout"): _opaque("a layout"),
    ("numpy", "dtype"): _opaque("a numpy type"),
    ("numpy.core.multiarray", "scalar"): _opaque("a numpy number"),
    ("numpy._core.multiarray", "scalar"): _opaque("a numpy number"),
    ("numpy.core.multiarray", "_reconstruct"): _opaque("a numpy array"),
    ("numpy._core.multiarray", "_reconstruct"): _opaque("a numpy array"),
    ("_codecs", "encode"): _opaque("bytes"),
    ("argparse", "Namespace"): _opaque("a trainer's options"),
    ("builtins", "set"): _opaque("a set"),
    ("__builtin__", "set"): _opaque("a set"),
}
# Names that only stand somewhere and are never called: a key, an argument.
_INERT = {
    *(("torch", name) for name in (*_STORAGES, *_DATA_TYPES)),
    ("torch.storage", "UntypedStorage"),
    ("torch", "QInt8Storage"),
    ("torch", "QUInt8Storage"),
    ("torch", "QInt32Storage"),
    ("torch", "per_tensor_affine"),
    ("torch", "per_channel_affine"),
    ("torch", "sparse_coo"),
    ("torch", "strided"),
    ("torch", "Tensor"),
    ("torch.nn.parameter", "Parameter"),
    ("numpy", "ndarray"),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("dict", "list")),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("int", "float")),
    # Checkpoints of the first Stable Diffusion have it as a key.
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
}


def named(module: Any, name: Any) -> Named:
    """The name, if it is on the list.

    Raises:
        FailedPrecondition: MODEL_UNSAFE_PICKLE, with the name.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise unsafe("a name that it puts together itself")
    if (module, name) not in _CALLS and (module, name) not in _INERT:
        raise unsafe(f"{module}.{name}")
    return Named(module, name)


def call(function: Any, arguments: Any) -> Any:
    """What a call of a name on the list stands for.

    Raises:
        FailedPrecondition: MODEL_UNSAFE_PICKLE where it is no name that may be called;
            MODEL_STRUCTURE_INVALID where the arguments are not what torch gives it.
    """
    if not isinstance(function, Named):
        raise unsafe("a call of what has no name")
    made = _CALLS.get((function.module, function.name))
    if made is None:
        raise unsafe(f"a call of {function}")
    if not isinstance(arguments, tuple):
        raise bad_structure("calls something without arguments")
    try:
        return made(*arguments)
    except TypeError as error:
        raise bad_structure(f"has a {function.name} that torch did not write") from error


def storage(reference: Any) -> Storage:
    """A storage from what torch calls its persistent id.

    Raises:
        FailedPrecondition: MODEL_STRUCTURE_INVALID or MODEL_SHAPE_INVALID.
    """
    if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
        raise bad_structure("refers to something that is no storage")
    _, kind, key, _device, count, *view = reference
    data_type = storage_type(kind)
    if data_type is None:
        raise bad_structure(f"has numbers of type {kind}" if kind else "has numbers of no type")
    if not isinstance(key, str) or type(count) is not int or count < 0:
        raise bad_structure("has a storage of impossible size")
    start = 0
    if view and view[0] is not None:  # (key, first element, elements) of a view
        if not isinstance(view[0], tuple) or len(view[0]) != 3:
            raise bad_structure("has a view that is none")
        _, start, count = view[0]
        if any(type(number) is not int or number < 0 for number in (start, count)):
            raise bad_structure("has a view of impossible size")
    return Storage(key, data_type, count, start)


def put(table: dict[Any, Any], key: Any, value: Any) -> None:
    """Put an entry into a table; keys are texts, numbers and names, which cost nothing to hash.

    Raises:
        FailedPrecondition: MODEL_STRUCTURE_INVALID.
    """
    if key is not None and not isinstance(key, str | bytes | int | float | Named):
        raise bad_structure("has a table whose keys are no names")
    if isinstance(key, int) and abs(key) >= 2**64:
        raise bad_structure("has a table with a number of thousands of digits as a key")
    table[key] = value


def elements(shape: Shape) -> int:
    """How many numbers a tensor of that shape has."""
    return math.prod(shape)
