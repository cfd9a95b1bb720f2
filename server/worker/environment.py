"""What a worker inherits from the front's environment, and what it must not.

Beside server/config.py this is the only place that touches the environment: not for
settings of ours, but for those of libraries, which read it when they are imported.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import deviceops.worker.v1.worker_pb2 as link_messages

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
}
_SPINS = "GOMP_SPINCOUNT"
# With it torch unpickles whatever it is given, whatever our code asks for.
_FORBIDDEN = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class UnsafeEnvironment(Exception):
    """A variable is set with which no model file may be opened; the text names it."""


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


def settle_environment() -> None:
    """Settle what this process's libraries read from the environment, before they do.

    They are kept off the network, and considerate of other programs.

    Raises:
        UnsafeEnvironment: It would make them run what model files say.
    """
    environment = os.environ  # noqa: TID251 - see the module
    if environment.get(_FORBIDDEN):
        raise UnsafeEnvironment(f"{_FORBIDDEN} is set; unset it to start workers.")
    environment.update(_OFFLINE)
    if sys.platform == "linux":
        # By default GNU OpenMP's threads spin long at every barrier; beside other busy
        # programs that makes a denoising step several times slower than spinning briefly.
        # Spinning too briefly costs an idle machine: 1000 took 12 % there, 3000 took 1 %
        # (bench/openmp.py).
        if not any(name in environment for name in ("OMP_WAIT_POLICY", _SPINS)):
            environment[_SPINS] = "3000"


def _source_roots() -> list[Path]:
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    server = Path(__file__).resolve().parents[2]
    generated = Path(link_messages.__file__).resolve().parents[3]
    return [root for root in dict.fromkeys((server, generated)) if root not in installed]


def worker_command(python: Path | None = None) -> list[str]:
    """Starts the product's worker with that interpreter, or with this one.

    `-P`: what lies in the current folder must not stand in for a library.
    """
    return [str(python or sys.executable), "-P", "-m", "server.worker"]
