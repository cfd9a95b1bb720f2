"""What a worker inherits from the front's environment, and how it is started.

Beside server/config.py only this and the child's `environment` touch it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path


def child_environment() -> dict[str, str]:
    """The front's environment without settings of ours, and with the way to our code.

    Another interpreter does not have a source checkout on its path; an installed package
    it must have itself, as this one's libraries are not for it.
    """
    inherited = os.environ  # noqa: TID251 - see the module
    environment = {
        name: value for name, value in inherited.items() if not name.startswith("DEVICEOPS_")
    }
    paths = [str(root) for root in _source_roots()]
    paths += filter(None, [environment.get("PYTHONPATH")])
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _source_roots() -> list[Path]:
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    ours = Path(__file__).resolve().parents[3]
    return [] if ours in installed else [ours]


def worker_command(python: Path | None = None) -> list[str]:
    """Starts the product's worker with that interpreter, or with this one.

    `-P`: what lies in the current folder must not stand in for a library.
    """
    return [str(python or sys.executable), "-P", "-m", "server.worker.child"]


def carrier_command(address: str, node: str) -> list[str]:
    """Starts what stands here for a worker on that node of the Ray cluster at `address`."""
    return [sys.executable, "-P", "-m", "server.worker.cluster.carrier", address, node]


def look_command(address: str) -> list[str]:
    """Starts what looks for the devices of that cluster's other machines."""
    return [sys.executable, "-P", "-m", "server.worker.cluster.look", address]


def inspector_command() -> list[str]:
    """Starts an inspector, always with this interpreter: it needs nothing that devices do."""
    return [sys.executable, "-P", "-m", "server.worker.child.inspector"]
