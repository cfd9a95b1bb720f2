"""What a worker's libraries read from its environment, settled before they are imported.

Beside server/config.py only this and the front's `environment` touch it: not for settings
of ours, but for those of libraries.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
}
_SPINS = "GOMP_SPINCOUNT"
# NumPy's own. torch has its threads, and products here are small: beside torch's, those of
# OpenBLAS spend more on waking up than they gain, 1.4 times a chain's time (bench/chain.py).
_BLAS = "OPENBLAS_NUM_THREADS"
# With it torch unpickles whatever it is given, whatever our code asks for.
_FORBIDDEN = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class UnsafeEnvironment(Exception):
    """A variable is set with which no model file may be opened; the text names it."""


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
    environment.setdefault(_BLAS, "1")
    if sys.platform == "linux":
        # By default GNU OpenMP's threads spin long at every barrier; beside other busy
        # programs that makes a denoising step several times slower than spinning briefly.
        # Spinning too briefly costs an idle machine: 1000 took 12 % there, 3000 took 1 %
        # (bench/openmp.py).
        if not any(name in environment for name in ("OMP_WAIT_POLICY", _SPINS)):
            environment[_SPINS] = "3000"


def settle_compiler(unpacked: Path, kernels: Path) -> None:
    """Have torch's compilers, here and in processes that this one starts, keep what they write
    to run it in folders that nobody else may enter.

    Args:
        unpacked: For compiled code; this worker's own.
        kernels: For kernels, which workers share.
    """
    environment = os.environ  # noqa: TID251 - see the module
    environment["TORCHINDUCTOR_CACHE_DIR"] = os.fspath(unpacked)
    environment["TRITON_CACHE_DIR"] = os.fspath(kernels)
    # Compiled, they lie below the folder for temporary files whatever is said of others.
    environment["TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS"] = "0"


def settle_for_ray() -> None:
    """Settle what Ray reads when it is imported: it tells nobody that it is used."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # noqa: TID251 - see the module
