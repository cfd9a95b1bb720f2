"""What the probes of torch's own backends have in common."""

from __future__ import annotations

from typing import Any


def why_unusable(torch: Any, torch_device: str) -> str:
    """Add two small tensors on the device; what went wrong, or nothing.

    A card that is too old for the installed build is found and counted like any other
    and fails only here.
    """
    try:
        total = (torch.ones(8, device=torch_device) + 1).sum().item()
    except Exception as error:  # Drivers raise whatever they like.
        return f"a first computation failed: {error}"
    return "" if total == 16 else "a first computation gave a wrong result"


def runtime_version(torch: Any) -> str:
    """The compute library and its version ("torch 2.13.0")."""
    return f"torch {torch.__version__}"
