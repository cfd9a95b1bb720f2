"""Whether a device still computes in this process.

After an error that stays (a failed assertion in a kernel, a reset, a card that was pulled)
every later call fails, and what it fails with says little: torch may raise it from whatever
call comes next, also from one that only gives memory back. So the device itself is asked.
"""

from __future__ import annotations

import torch

_SUM = 16.0  # of eight twos


def computes(device: torch.device) -> bool:
    """Whether a small sum comes out right. For a thread that may touch the device."""
    try:
        return float((torch.ones(8, device=device) + 1).sum()) == _SUM
    except Exception:
        return False
