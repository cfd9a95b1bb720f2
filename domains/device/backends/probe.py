"""The probe process: looks for one kind of device after the other and reports each at once.

It is started with an interpreter that may not be the server's, so it uses nothing but the
standard library and whatever drives the device.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Callable

from domains.device.backends import cuda, directml, mps, xpu
from domains.device.backends.absence import NotThere
from domains.device.backends.answers import encode
from domains.device.types import Adapter, DeviceKind

_FIND: dict[DeviceKind, Callable[[DeviceKind], list[Adapter]]] = {
    DeviceKind.CUDA: cuda.find,
    DeviceKind.ROCM: cuda.find,
    DeviceKind.XPU: xpu.find,
    DeviceKind.MPS: mps.find,
    DeviceKind.DIRECT_ML: directml.find,
}


def main(arguments: list[str]) -> None:
    """Answer for each kind named in `arguments` after the seconds to live."""
    seconds, *names = arguments
    # A probe outlives neither its parent nor a driver that holds on to every thread.
    with open(os.devnull, "w", encoding="ascii") as nowhere:
        faulthandler.dump_traceback_later(float(seconds), exit=True, file=nowhere)
        # Libraries that print must not print into the answers.
        with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
            os.dup2(2, 1)
            for name in names:
                print(_look(DeviceKind(name)), file=answers, flush=True)


def _look(kind: DeviceKind) -> str:
    try:
        adapters = _FIND[kind](kind)
    except NotThere as reason:
        return encode(kind, (), str(reason))
    except Exception as error:  # Drivers raise whatever they like.
        return encode(kind, (), f"looking for it failed: {type(error).__name__}: {error}")
    return encode(kind, adapters, "" if adapters else "none was found")


if __name__ == "__main__":
    main(sys.argv[1:])
