"""What the installed torch was built for, read without importing it, which takes seconds."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

from domains.device.backends.absence import NotThere


def must_be_built_for(name: str, version: str) -> None:
    """Do nothing if torch may drive such devices: importing it tells for sure.

    Args:
        name: What its users call them ("CUDA").
        version: What torch's file of versions calls the toolkit's ("cuda"); None stands there
            if it was built without.

    Raises:
        NotThere: It was built without.
    """
    found = importlib.util.find_spec("torch")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder, "version.py")
        if file.is_file():
            told = runpy.run_path(str(file))
            if told.get(version, "unknown") is None:
                raise NotThere(f"torch {told.get('__version__')} was built without {name}")
