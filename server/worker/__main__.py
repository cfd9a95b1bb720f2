"""`python -m server.worker`: a worker with the product's engine."""

from __future__ import annotations

from domains.inference.ports import Engine
from server.worker.loop import main


def build_engine(torch_device: str) -> Engine:
    """The engine on that device; imports torch."""
    from domains.inference.backends.engine import Engine as TorchEngine

    return TorchEngine(torch_device)


if __name__ == "__main__":
    main(build_engine)
