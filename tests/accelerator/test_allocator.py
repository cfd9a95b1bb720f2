"""What is counted on a card, in one look and by torch one by one."""

from __future__ import annotations

import pytest
import torch

from domains.device.backends.allocator import Counted, counted

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")


def test_one_look_tells_what_torch_tells() -> None:
    kept = [torch.zeros(size, device="cuda") for size in (1000, 1 << 20, 3 << 20)]
    del kept[1]
    card = torch.cuda
    assert counted(card, "cuda:0") == Counted(
        card.memory_allocated(),
        card.max_memory_allocated(),
        card.memory_reserved(),
        card.memory_stats()["inactive_split_bytes.all.current"],
    )
