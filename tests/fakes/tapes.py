"""What records on a processor as a card does: operations and the places that they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class StaleMemory(Exception):
    """What was recorded reads memory that is somebody else's by now."""


@dataclass(frozen=True)
class _Outside:
    """A tensor that was there before; nobody keeps it for the recording's sake."""

    storage: StorageWeakRef
    of: tuple[Any, ...]
    data_type: torch.dtype

    @staticmethod
    def at(tensor: torch.Tensor) -> _Outside:
        of = (tensor.storage_offset(), tensor.shape, tensor.stride())
        return _Outside(StorageWeakRef(tensor.untyped_storage()), of, tensor.dtype)

    def there(self) -> torch.Tensor:
        storage = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        if storage is None:
            raise StaleMemory
        return torch.empty(0, dtype=self.data_type).set_(storage, *self.of)


class _Tape(TorchDispatchMode):
    """Every operation, in order, with the tensors that were made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, torch.Tensor] = {}
        self._storages: set[int] = set()
        self._operations: list[tuple[Any, Any, list[int | None]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        given = (args, kwargs or {})
        outside = {
            _storage(tensor) for tensor in pytree.tree_leaves(given) if _is_tensor(tensor)
        } - self._storages
        noted = pytree.tree_map_only(torch.Tensor, self._noted, given)
        result = func(*args, **(kwargs or {}))
        made = pytree.tree_leaves(result)
        for tensor in made:
            # What is only seen in another way is not kept.
            if _is_tensor(tensor) and _storage(tensor) not in outside:
                self._made[id(tensor)] = tensor
                self._storages.add(_storage(tensor))
        names = [id(each) if id(each) in self._made else None for each in made]
        self._operations.append((func, noted, names))
        return result

    def _noted(self, tensor: torch.Tensor) -> Any:
        return tensor if id(tensor) in self._made else _Outside.at(tensor)

    def play(self) -> dict[int, torch.Tensor]:
        """Do it all again; what comes of each tensor that was made."""
        now: dict[int, torch.Tensor] = {}

        def found(leaf: Any) -> Any:
            if isinstance(leaf, _Outside):
                return leaf.there()
            return now[id(leaf)] if _is_tensor(leaf) else leaf

        for func, given, names in self._operations:
            args, kwargs = pytree.tree_map(found, given)
            again = pytree.tree_leaves(func(*args, **kwargs))
            now |= {
                name: tensor
                for name, tensor in zip(names, again, strict=True)
                if name is not None
            }
        return now


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


class Taping:
    """A recorder that plays operations on the memory that they were recorded with."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.recorded += 1
        with torch.no_grad(), _Tape() as tape:
            result = run()

        def replay() -> None:
            self.replayed += 1
            with torch.no_grad():
                now = tape.play()
                for tensor in pytree.tree_leaves(result):
                    tensor.copy_(now[id(tensor)])

        return replay, result

    def let_go(self) -> None:
        pass
