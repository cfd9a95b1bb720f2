"""Files as torch.save writes them, and as people with other aims do; made without torch."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from domains.errors import Reason

_MAGIC = 0x1950A86A20F9469CFC6C
_MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


class Reference:
    """Pickles as a name of a library, called with arguments or not."""

    def __init__(self, module: str, name: str, *arguments: Any, called: bool = True) -> None:
        self.module, self.name = module, name
        self.arguments = arguments if called else None


class StorageOf:
    """Pickles as torch's reference to a storage."""

    def __init__(self, key: str, kind: str, count: int, view: Any = ()) -> None:
        self.key, self.kind, self.count, self.view = key, kind, count, view


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Python's own, slow one: it lets names be written that cannot be imported."""

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, StorageOf):
            return None
        kind = Reference("torch", value.kind, called=False)
        return ("storage", kind, value.key, "cpu", value.count, *value.view)

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(value, Reference):
            super().save(value, save_persistent_id)
            return
        self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        if value.arguments is not None:
            self.save(value.arguments)
            self.write(b"R")


def program(value: Any, protocol: int = 2) -> bytes:
    """The pickle of a value."""
    target = io.BytesIO()
    _Pickler(target, protocol).dump(value)
    return target.getvalue()


def tensor(key: str, shape: tuple[int, ...], **changes: Any) -> Reference:
    """A tensor of float32 as torch writes one; `changes` make it another."""
    count = int(np.prod(shape, dtype=np.int64))
    strides = tuple(int(np.prod(shape[n + 1 :], dtype=np.int64)) for n in range(len(shape)))
    storage = changes.get("storage", StorageOf(key, changes.get("kind", "FloatStorage"), count))
    offset, strides = changes.get("offset", 0), changes.get("strides", strides)
    arguments = (storage, offset, changes.get("size", shape), strides, False, OrderedDict())
    return Reference("torch._utils", changes.get("function", "_rebuild_tensor_v2"), *arguments)


def archive(
    path: Path,
    value: Any,
    storages: Mapping[str, bytes] = {},
    *,
    extra: Mapping[str, bytes] = {},
) -> Path:
    """A file of torch 1.6 and later."""
    described = value if isinstance(value, bytes) else program(value)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        target.writestr("archive/data.pkl", described)
        for key, data in storages.items():
            target.writestr(f"archive/data/{key}", data)
        for name, data in extra.items():
            target.writestr(name, data)
        target.writestr("archive/version", b"3\n")
    return path


def legacy(path: Path, value: Any, storages: Mapping[str, tuple[int, bytes]] = {}) -> Path:
    """A file of torch before 1.6; storages are a number of elements and their bytes."""
    described = value if isinstance(value, bytes) else program(value)
    parts = [program(_MAGIC), program(1001), program(_MACHINE), described]
    parts.append(program(list(storages)))
    parts += [struct.pack("<q", count) + data for count, data in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


FOUR = np.arange(4, dtype="<f4").tobytes()
GOOD = {"a.weight": tensor("0", (2, 2))}


def _weights(path: Path, **changes: Any) -> Path:
    return archive(path, {"a.weight": tensor("0", (2, 2), **changes)}, {"0": FOUR})


def _code(module: str, name: str, *arguments: Any) -> Callable[[Path], Path]:
    return lambda path: archive(path, {"a": Reference(module, name, *arguments)}, {"0": FOUR})


def _memo_trick(path: Path) -> Path:
    """The name is put together from texts in the memo, where a search for names sees none."""
    described = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x02id\x85R."
    return archive(path, described, {"0": FOUR})


def _computed_name(path: Path) -> Path:
    return archive(path, b"\x80\x04}}\x93.", {"0": FOUR})


def _graph(path: Path) -> Path:
    """A list of two references to the list before it, sixty times: 2^60 leaves."""
    steps = b"".join(b"](h\x00h\x00e\x94" if n == 0 else _pair(n) for n in range(1, 61))
    described = b"\x80\x04]\x94" + steps + b"."
    return archive(path, {"a.weight": 1} if not steps else described, {"0": FOUR})


def _pair(number: int) -> bytes:
    before = struct.pack("<B", number - 1)
    return b"0](h" + before + b"h" + before + b"e\x94"


def _nested_lists(path: Path) -> Path:
    return archive(path, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", {"0": FOUR})


def _nested_tables(path: Path) -> Path:
    value: Any = GOOD
    for _ in range(30):
        value = {"t": value}
    return archive(path, value, {"0": FOUR})


def _encrypted(path: Path) -> Path:
    return _patched(archive(path, GOOD, {"0": FOUR}), 8, b"\x01\x00")


def _patched(path: Path, field: int, data: bytes) -> Path:
    """Change a field of the first entry of the archive's list."""
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + field
    content[place : place + len(data)] = data
    path.write_bytes(content)
    return path


def _escaping(path: Path) -> Path:
    return archive(path, GOOD, {"0": FOUR}, extra={"archive/../../x": b"1"})


def _compressed(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("archive/data.pkl", program(GOOD))
        target.writestr("archive/data/0", bytes(1 << 20))
    return path


def _many_entries(path: Path) -> Path:
    """An archive of 100,000 entries, of which only the list's end is there."""
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 34_464, 34_464, 1 << 20, 0, 0)
    path.write_bytes(b"PK\x03\x04" + bytes(1 << 20) + end)
    return path


def _lying_zip64(path: Path) -> Path:
    content = bytearray(archive(path, GOOD, {"0": FOUR}).read_bytes())
    end = content.rindex(b"PK\x05\x06")
    far = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, *[2**62] * 4)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    content[end:end] = far + locator
    content[-12:-2] = b"\xff" * 10
    path.write_bytes(content)
    return path


def _overlapping(path: Path) -> Path:
    """Two entries of the list are one and the same place in the file."""
    archive(path, GOOD, {"0": FOUR, "1": FOUR})
    content = bytearray(path.read_bytes())
    entries = [n for n in range(len(content)) if content[n : n + 4] == b"PK\x01\x02"]
    first, second = entries[1], entries[2]
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    path.write_bytes(content)
    return path


def _cut(count: int) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        os.truncate(archive(path, GOOD, {"0": FOUR}), path.stat().st_size - count)
        return path

    return make


def _text(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def _safetensors(path: Path) -> Path:
    header = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + FOUR)
    return path


def _big_endian(path: Path) -> Path:
    return archive(path, GOOD, {"0": FOUR}, extra={"archive/byteorder": b"big"})


def _long_text(path: Path) -> Path:
    return archive(path, b"\x80\x02X\xff\xff\xff\x7fabc.", {"0": FOUR})


def _large_program(path: Path) -> Path:
    return archive(
        path, b"\x80\x02X" + struct.pack("<I", 17 << 20) + bytes(17 << 20) + b".", {}
    )


def _endless_instructions(path: Path) -> Path:
    return archive(path, b"\x80\x02" + b"N0" * 1_100_000 + b"N.", {"0": FOUR})


def _legacy_cut(path: Path) -> Path:
    os.truncate(legacy(path, GOOD, {"0": (4, FOUR)}), path.stat().st_size - 1)
    return path


def _many_copies(path: Path) -> Path:
    data = bytes(4 << 20)
    views = {f"l{n}.weight": tensor("0", (1 << 20,)) for n in range(100)}
    return archive(path, views, {"0": data})


_SIZES = StorageOf("0", "FloatStorage", 1 << 40)
_VIEW = StorageOf("0", "FloatStorage", 4, ((("v", 2, 4)),))

BAD: Mapping[str, tuple[Reason, Callable[[Path], Path]]] = {
    "os.system": (Reason.MODEL_UNSAFE_PICKLE, _code("os", "system", "id")),
    "posix.system": (Reason.MODEL_UNSAFE_PICKLE, _code("posix", "system", "id")),
    "eval": (Reason.MODEL_UNSAFE_PICKLE, _code("builtins", "eval", "1")),
    "getattr": (Reason.MODEL_UNSAFE_PICKLE, _code("builtins", "getattr", 1, "x")),
    "subprocess": (Reason.MODEL_UNSAFE_PICKLE, _code("subprocess", "Popen", ["id"])),
    "nested pickle": (Reason.MODEL_UNSAFE_PICKLE, _code("pickle", "loads", b"N.")),
    "nested torch file": (
        Reason.MODEL_UNSAFE_PICKLE,
        _code("torch.storage", "_load_from_bytes", b""),
    ),
    "call of a callback": (
        Reason.MODEL_UNSAFE_PICKLE,
        _code("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    ),
    "call of a storage": (Reason.MODEL_UNSAFE_PICKLE, _code("torch", "FloatStorage")),
    "a module": (Reason.MODEL_UNSAFE_PICKLE, _code("torch.nn.modules.linear", "Linear")),
    "names in the memo": (Reason.MODEL_UNSAFE_PICKLE, _memo_trick),
    "a name of tables": (Reason.MODEL_UNSAFE_PICKLE, _computed_name),
    "old instance": (
        Reason.MODEL_UNSAFE_PICKLE,
        lambda path: archive(path, b"(S'id'\nios\nsystem\n.", {"0": FOUR}),
    ),
    "extension registry": (
        Reason.MODEL_UNSAFE_PICKLE,
        lambda path: archive(path, b"\x80\x02\x82\x01.", {"0": FOUR}),
    ),
    "os.system in an old file": (
        Reason.MODEL_UNSAFE_PICKLE,
        lambda path: legacy(path, {"a": Reference("os", "system", "id")}),
    ),
    "os.system before the magic": (
        Reason.MODEL_UNSAFE_PICKLE,
        lambda path: _text(program(Reference("os", "system", "id")))(path),
    ),
    "graph": (Reason.MODEL_STRUCTURE_INVALID, _graph),
    "nested lists": (Reason.MODEL_STRUCTURE_INVALID, _nested_lists),
    "nested tables": (Reason.MODEL_STRUCTURE_INVALID, _nested_tables),
    "text as tensor": (
        Reason.MODEL_STRUCTURE_INVALID,
        lambda path: archive(path, {**GOOD, "b.weight": "hello"}, {"0": FOUR}),
    ),
    "no tensors": (Reason.MODEL_STRUCTURE_INVALID, lambda path: archive(path, {"a": 1})),
    "a list": (Reason.MODEL_STRUCTURE_INVALID, lambda path: archive(path, [GOOD], {"0": FOUR})),
    "sparse": (
        Reason.MODEL_STRUCTURE_INVALID,
        lambda path: archive(
            path,
            {"a.weight": Reference("torch._utils", "_rebuild_sparse_tensor", 1, 2)},
            {"0": FOUR},
        ),
    ),
    "quantised": (
        Reason.MODEL_STRUCTURE_INVALID,
        lambda path: archive(
            path, {"a.weight": Reference("torch._utils", "_rebuild_qtensor", 1)}, {"0": FOUR}
        ),
    ),
    "many copies": (Reason.MODEL_STRUCTURE_INVALID, _many_copies),
    "tensor of a number": (
        Reason.MODEL_STRUCTURE_INVALID,
        lambda path: _weights(path, storage=4),
    ),
    "shape of texts": (
        Reason.MODEL_STRUCTURE_INVALID,
        lambda path: _weights(path, size=("a", "b")),
    ),
    "negative offset": (Reason.MODEL_STRUCTURE_INVALID, lambda path: _weights(path, offset=-5)),
    "key that is a list": (
        Reason.MODEL_STRUCTURE_INVALID,
        lambda path: archive(path, b"\x80\x02})Ns.", {"0": FOUR}),
    ),
    "storage over its bytes": (
        Reason.MODEL_SHAPE_INVALID,
        lambda p: _weights(p, storage=_SIZES),
    ),
    "view over its bytes": (
        Reason.MODEL_SHAPE_INVALID,
        lambda path: _weights(path, storage=_VIEW),
    ),
    "offset behind the end": (
        Reason.MODEL_SHAPE_INVALID,
        lambda path: _weights(path, offset=1),
    ),
    "strides over the end": (
        Reason.MODEL_SHAPE_INVALID,
        lambda p: _weights(p, strides=(2**60, 1)),
    ),
    "nine dimensions": (
        Reason.MODEL_SHAPE_INVALID,
        lambda path: _weights(path, size=(1,) * 9, strides=(1,) * 9),
    ),
    "encrypted": (Reason.MODEL_ARCHIVE_INVALID, _encrypted),
    "entry outside": (Reason.MODEL_ARCHIVE_INVALID, _escaping),
    "compressed": (Reason.MODEL_ARCHIVE_INVALID, _compressed),
    "100,000 entries": (Reason.MODEL_ARCHIVE_INVALID, _many_entries),
    "lying zip64 sizes": (Reason.MODEL_ARCHIVE_INVALID, _lying_zip64),
    "entry of lying size": (
        Reason.MODEL_ARCHIVE_INVALID,
        lambda path: _patched(
            archive(path, GOOD, {"0": FOUR}), 20, struct.pack("<II", 1 << 30, 1 << 30)
        ),
    ),
    "overlapping entries": (Reason.MODEL_ARCHIVE_INVALID, _overlapping),
    "empty": (Reason.MODEL_TRUNCATED, _text(b"")),
    "cut by one byte": (Reason.MODEL_TRUNCATED, _cut(1)),
    "cut by its end": (Reason.MODEL_TRUNCATED, _cut(22)),
    "storage is missing": (Reason.MODEL_TRUNCATED, lambda path: archive(path, GOOD)),
    "old file, cut": (Reason.MODEL_TRUNCATED, _legacy_cut),
    "old file without numbers": (Reason.MODEL_TRUNCATED, lambda path: legacy(path, GOOD)),
    "TorchScript": (
        Reason.MODEL_FORMAT_UNSUPPORTED,
        lambda p: archive(p, GOOD, {"0": FOUR}, extra={"archive/constants.pkl": b"N."}),
    ),
    "TorchScript code": (
        Reason.MODEL_FORMAT_UNSUPPORTED,
        lambda p: archive(p, GOOD, {"0": FOUR}, extra={"archive/code/a.py": b"1"}),
    ),
    "another archive": (
        Reason.MODEL_FORMAT_UNSUPPORTED,
        lambda path: _zip_of(path, {"word/document.xml": b"<a/>"}),
    ),
    "login page": (
        Reason.MODEL_FORMAT_UNSUPPORTED,
        _text(b"\n<!DOCTYPE html><html>Log in</html>"),
    ),
    "LFS pointer": (
        Reason.MODEL_FORMAT_UNSUPPORTED,
        _text(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
    ),
    "safetensors": (Reason.MODEL_FORMAT_UNSUPPORTED, _safetensors),
    "a pickled number": (Reason.MODEL_FORMAT_UNSUPPORTED, _text(pickle.dumps(1))),
    "another byte order": (Reason.MODEL_FORMAT_UNSUPPORTED, _big_endian),
    "a picture": (Reason.MODEL_FORMAT_UNSUPPORTED, _text(b"\x89PNG\r\n\x1a\n" + bytes(100))),
    "text longer than the file": (Reason.MODEL_HEADER_INVALID, _long_text),
    "not a pickle": (
        Reason.MODEL_HEADER_INVALID,
        lambda path: archive(path, b"\x80\x02\xfe\xfe", {"0": FOUR}),
    ),
    "empty stack": (
        Reason.MODEL_HEADER_INVALID,
        lambda p: archive(p, b"\x80\x020.", {"0": FOUR}),
    ),
    "unknown memo": (Reason.MODEL_HEADER_INVALID, lambda p: archive(p, b"\x80\x02h\x07.", {})),
    "large description": (Reason.MODEL_HEADER_TOO_LARGE, _large_program),
    "endless instructions": (Reason.MODEL_HEADER_TOO_LARGE, _endless_instructions),
}
"""Files by what is wrong with them: the reason, and what makes one."""


def _zip_of(path: Path, entries: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as target:
        for name, data in entries.items():
            target.writestr(name, data)
    return path
