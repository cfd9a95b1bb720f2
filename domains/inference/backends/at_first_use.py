"""Modules that libraries import for what hardly anybody asks for."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def put_off(name: str) -> None:
    """Have a module imported at the first use of something in it, by whoever imports it.

    No effect once it is imported.
    """
    sys.modules.setdefault(name, _AtFirstUse(name))


class _AtFirstUse(ModuleType):
    """Stands in for a module until something in it is asked for.

    `importlib.util.LazyLoader` does not do: a second `import` loads what it made.
    """

    def __getattr__(self, name: str) -> Any:
        """What the module has by that name; imports it.

        Raises:
            AttributeError: It has no such thing, or it is what every module may have: those
                who look through all modules ask for that.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            # What is imported now may ask for parts of the others, which only packages have.
            for other, module in list(sys.modules.items()):
                if isinstance(module, _AtFirstUse):
                    del sys.modules[other]
        return getattr(importlib.import_module(self.__name__), name)
