"""What every domain's conversions share."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from deviceops.v1 import session_pb2
from domains.conversions import byte_figure, seconds, wished
from domains.limits import LIMITS
from domains.values import ByteFigure


def test_a_long_source_is_cut_to_what_an_answer_holds() -> None:
    """A container's limit is named by its path, which may be as deep as paths are."""
    shown = byte_figure(ByteFigure.measured(1, "/sys/fs/cgroup/" + "deep/" * 100))

    assert shown.source.startswith("/sys/fs/cgroup/deep/")
    assert len(shown.source) == LIMITS["ByteFigure.source"].max_characters == 128


def test_what_a_client_set_is_wished_for_also_where_it_is_nothing() -> None:
    unset = session_pb2.WorkOptions()
    assert wished(unset, "retention") is None
    assert wished(unset, "retention", seconds) is None

    nothing = session_pb2.WorkOptions(retention=Duration())

    assert wished(nothing, "retention") == Duration()
    assert wished(nothing, "retention", seconds) == 0.0
