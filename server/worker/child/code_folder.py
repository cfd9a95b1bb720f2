"""Where a worker's compiled code is unpacked before it runs.

Left to itself, torch unpacks it, and runs what it finds unpacked, in a folder of a name that
everybody knows below the one for temporary files, where other users may have put something; and
it never deletes anything there.

Kernels outlive workers: those of our own are compiled when they are first called, for seconds
each, and are no part of what is unpacked.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path

from domains import private_folders
from server.worker.child.environment import settle_compiler

_KERNELS = "kernels"
_MOST_KERNELS = 20_000  # of a few files each; a network's code has some hundred
_log = logging.getLogger("deviceops.worker")


def prepare_code_dir(code_dir: Path | None, torch_device: str) -> Path | None:
    """Have compiled code unpacked in an empty folder of this worker's own within `code_dir`.

    Args:
        code_dir: Where compiled code of all workers lies; None: nothing is compiled.
        torch_device: The worker's, which no other worker has.

    Returns:
        The same; None where there can be no such folder: then nothing is to be compiled.
    """
    if code_dir is None:
        return None
    unpacked = code_dir / f"unpacked-{re.sub('[^a-z0-9]', '-', torch_device.lower())}"
    try:
        private_folders.prepare(code_dir)
        private_folders.prepare(unpacked)
        # What the worker before has left.
        shutil.rmtree(unpacked)
        private_folders.prepare(unpacked)
        kernels = code_dir / _KERNELS
        private_folders.prepare(kernels)
        if sum(len(folders) for _, folders, _ in os.walk(kernels)) > _MOST_KERNELS:
            shutil.rmtree(kernels, ignore_errors=True)
            private_folders.prepare(kernels)
    except OSError as error:
        _log.warning("nothing is compiled: %s", error)
        return None
    settle_compiler(unpacked, kernels)
    return code_dir
