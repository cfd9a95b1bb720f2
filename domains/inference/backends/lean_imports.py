"""The model libraries, imported without what no worker uses: a worker is ready sooner.

They are asked for a few networks and schedulers, and import for training, for adapters of
other libraries and for compilation besides.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from domains.inference.backends.at_first_use import put_off


def import_libraries() -> None:
    """Import them; for the beginning of a process that does nothing but a worker's work.

    What is imported already stays, and what a version of a library lacks is passed over.
    """
    # The schedulers have them for the beta schedule and for linear multistep alone.
    put_off("scipy.stats")
    put_off("scipy.integrate")
    # Adapters are applied by code of our own. Diffusers looks for it once, when it is imported.
    if "diffusers" not in sys.modules:
        sys.modules.setdefault("peft", None)  # type: ignore[arg-type]  # importing it fails
    transformers = importlib.import_module("transformers")
    scan = importlib.import_module("transformers.utils.import_utils")
    with _remembering(scan, Path(str(transformers.__file__)).parent / "models"):
        importlib.import_module("transformers.models")
    # The losses of trainings ask, and bring its optimisers.
    importlib.import_module("transformers.utils").is_scipy_available = lambda: False  # type: ignore[attr-defined]
    # Diffusers marks classes for compilation, which happens in processes of its own; the
    # networks of text encoders bring it, but only when the first model is loaded.
    with _missing("torch._dynamo"):
        importlib.import_module("diffusers.utils.torch_utils")


@contextmanager
def _missing(name: str) -> Iterator[None]:
    """Importing that module fails meanwhile, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _remembering(scan: ModuleType, folder: Path) -> Iterator[None]:
    """Transformers reads each of its files to know what is in them, and all of them again for
    `transformers.models`, by another name of the same folder: it remembers the first alone."""
    asked = "create_import_structure_from_path"
    read = getattr(scan, asked, None)
    if read is None:
        yield
        return
    again = {os.fspath(folder), os.fspath(folder / "__init__.py")}
    setattr(scan, asked, lambda path: read(folder if os.fspath(path) in again else path))
    try:
        yield
    finally:
        setattr(scan, asked, read)
