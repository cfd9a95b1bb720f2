"""What every domain's conversions share."""

from __future__ import annotations

from domains.conversions import byte_figure
from domains.limits import LIMITS
from domains.values import ByteFigure


def test_a_long_source_is_cut_to_what_an_answer_holds() -> None:
    """A container's limit is named by its path, which may be as deep as paths are."""
    shown = byte_figure(ByteFigure.measured(1, "/sys/fs/cgroup/" + "deep/" * 100))

    assert shown.source.startswith("/sys/fs/cgroup/deep/")
    assert len(shown.source) == LIMITS["ByteFigure.source"].max_characters == 128
