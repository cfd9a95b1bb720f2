"""The self-test's facts on a real processor, and what it makes of broken devices."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from domains.device.backends import selftest, torch_gauge
from domains.device.backends.arithmetic import Arithmetic, relative_error
from domains.device.backends.selftest import SelfTest
from domains.device.backends.torch_gauge import (
    ProcessGauge,
    TorchGauge,
    gauge_for,
    obtainable_bytes,
)
from domains.device.errors import DeviceLost
from domains.device.jobs import AttentionBackend, SelfTestFacts, SelfTestJob
from domains.device.types import LoadedComponent
from domains.errors import Cancelled, Reason, ResourceExhausted
from domains.inference.backends.room import check_possible
from domains.session.types import Phase, PhaseStarted
from domains.values import ByteFigure, FigureQuality, TensorDataType
from tests.fakes.jobs import Listener

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

PROCESSOR = torch.device("cpu")


def nothing() -> None:
    """No reason to stop."""


@pytest.fixture(scope="module")
def facts() -> SelfTestFacts:
    heard = Listener()
    facts = SelfTest(PROCESSOR)(SelfTestJob(), heard)
    assert heard.events == [PhaseStarted(Phase.MEASURING)]
    return facts


def test_a_processor_computes_in_the_ordinary_types(facts: SelfTestFacts) -> None:
    types = {fact.data_type: fact for fact in facts.data_types}
    for name, least in (
        (TensorDataType.FLOAT32, 1e-9),
        (TensorDataType.FLOAT16, 1e-6),
        (TensorDataType.BFLOAT16, 1e-5),
    ):
        assert types[name].works
        assert types[name].matmul_tflops > 0
        # Rounding is seen: it really computed in that type.
        assert types[name].max_relative_error > least
    assert (
        types[TensorDataType.FLOAT32].max_relative_error
        < types[TensorDataType.FLOAT16].max_relative_error
    )
    assert (
        types[TensorDataType.FLOAT16].max_relative_error
        < types[TensorDataType.BFLOAT16].max_relative_error
    )
    assert types[TensorDataType.FLOAT64].max_relative_error < 1e-12
    assert facts.has_float64


def test_a_processors_other_facts_are_plausible(facts: SelfTestFacts) -> None:
    assert facts.problems == ()
    assert AttentionBackend.MATH in facts.attention_backends
    assert 0.05 < facts.host_to_device_gbps < 1000
    assert 0.05 < facts.device_to_host_gbps < 1000
    assert not facts.has_pinned_memory
    largest = facts.largest_allocation
    assert largest.quality is FigureQuality.ESTIMATED
    assert largest.value is not None
    assert 0 < largest.value <= selftest.MAIN_MEMORY_BYTES
    assert "not tried beyond" in largest.source
    assert facts.software_versions["torch"] == torch.__version__


def test_it_stops_between_two_checks() -> None:
    asked = []

    def stop() -> None:
        asked.append(1)
        raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        SelfTest(PROCESSOR)(SelfTestJob(), Listener(stop))
    assert asked == [1]


def test_wrong_results_are_a_problem_and_not_a_capability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silu(tensor: torch.Tensor) -> torch.Tensor:
        # Wrong in float32 alone, right where the reference is computed.
        exact = tensor * torch.sigmoid(tensor)
        return exact if tensor.dtype is torch.float64 else exact * 1.01

    monkeypatch.setattr(torch.nn.functional, "silu", silu)
    facts, problem = Arithmetic(PROCESSOR, nothing).measure(TensorDataType.FLOAT32)
    assert not facts.works
    assert facts.max_relative_error == pytest.approx(0.007, abs=0.004)
    assert facts.matmul_tflops == 0
    assert problem.startswith("float32 computes wrong results")


def test_a_type_that_is_refused_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise RuntimeError("no such type here")

    monkeypatch.setattr(Arithmetic, "_error", refuse)
    facts, problem = Arithmetic(PROCESSOR, nothing).measure(TensorDataType.FLOAT64)
    assert (facts.works, facts.matmul_tflops, problem) == (False, 0.0, "")
    facts, problem = Arithmetic(PROCESSOR, nothing).measure(TensorDataType.FLOAT32)
    assert not facts.works
    assert problem == "float32 does not compute: no such type here."


def test_types_that_end_a_driver_are_not_tried_with_it() -> None:
    driver = Arithmetic(torch.device("privateuseone:0"), nothing)
    assert set(driver.candidates()) == {
        TensorDataType.FLOAT32,
        TensorDataType.FLOAT16,
        TensorDataType.FLOAT64,
    }


def test_results_that_are_not_finite_are_infinitely_wrong() -> None:
    wanted = torch.ones(4)
    assert relative_error(torch.tensor([1.0, 1.0, 1.0, math.nan]), wanted) == math.inf
    assert relative_error(torch.tensor([1.0, 1.0, 1.0, math.inf]), wanted) == math.inf
    assert relative_error(wanted * 1.5, wanted) == pytest.approx(0.5)


def test_a_check_that_fails_is_a_sentence_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_self: object) -> None:
        raise RuntimeError("driver says\nno")

    monkeypatch.setattr(SelfTest, "_copies", broken)
    monkeypatch.setattr(SelfTest, "_largest", broken)
    monkeypatch.setattr(Arithmetic, "candidates", lambda _self: ())
    facts = SelfTest(PROCESSOR)(SelfTestJob(), Listener())
    assert facts.problems == (
        "The check of copying failed: driver says.",
        "The check of allocating failed: driver says.",
    )
    assert facts.host_to_device_gbps == 0
    assert facts.largest_allocation.quality is FigureQuality.UNKNOWN
    assert AttentionBackend.MATH in facts.attention_backends


def test_a_device_that_is_gone_afterwards_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(Arithmetic, "candidates", lambda _self: ())
    monkeypatch.setattr(SelfTest, "_copies", lambda _self: (1.0, 1.0, False))
    monkeypatch.setattr(torch, "ones", gone)
    with pytest.raises(DeviceLost) as lost:
        SelfTest(PROCESSOR)(SelfTestJob(), Listener())
    assert lost.value.reason is Reason.DEVICE_LOST


COMPONENT = LoadedComponent("m", "unet", ByteFigure.measured(500, "weights"), "", EPOCH)


def test_a_processors_figures_say_what_is_not_told() -> None:
    gauge = gauge_for(PROCESSOR)
    assert isinstance(gauge, ProcessGauge)
    figures = gauge.read(1000, (COMPONENT,))
    assert figures.allocated == ByteFigure(
        1500, FigureQuality.ESTIMATED, "leases + weights of loaded networks"
    )
    assert figures.leased_bytes == 1000
    assert figures.models == (COMPONENT,)
    resident, peak = figures.reserved.value, figures.peak_allocated.value
    assert resident is not None
    assert peak is not None
    assert 50 << 20 < resident <= peak
    for unknown in (figures.total, figures.free, figures.inactive_split):
        assert unknown.value is None
        assert unknown.source


class Driver:
    """What torch.cuda tells, with made-up numbers."""

    __name__ = "torch.driver"

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        return 70, 100

    def memory_allocated(self, device: torch.device) -> int:
        return 10

    def memory_reserved(self, device: torch.device) -> int:
        return 20

    def max_memory_allocated(self, device: torch.device) -> int:
        return 15

    def memory_stats(self, device: torch.device) -> dict[str, int]:
        return {"inactive_split_bytes.all.current": 5}


class CountingDriver:
    """The same, from one look at all that is counted."""

    __name__ = "torch.driver"

    def __init__(self, used: bool = True) -> None:
        def count(now: int, most: int = 0) -> dict[str, dict[str, int]]:
            return {"all": {"current": now, "peak": most}, "large_pool": {"current": 1}}

        self.counts = {
            "allocated_bytes": count(10, 15),
            "reserved_bytes": count(20),
            "inactive_split_bytes": count(5),
        }
        if not used:
            self.counts = {}

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        return 70, 100

    def memory_stats_as_nested_dict(self, device: torch.device) -> dict[str, Any]:
        return self.counts

    def max_memory_allocated(self, device: torch.device) -> int:
        raise AssertionError("asked by itself")

    memory_allocated = memory_reserved = memory_stats = max_memory_allocated


class BuiltInDriver(CountingDriver):
    """What torch.xpu tells of an adapter within a processor: all memory, not what is free."""

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        raise RuntimeError(
            "The device (Intel(R) Arc(TM) Graphics) doesn't support querying the available "
            "free memory. You can file an issue at ..."
        )

    def get_device_properties(self, device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(total_memory=90)

    def max_memory_allocated(self, device: torch.device) -> int:
        return 15


class UnifiedDriver:
    """What torch.mps tells."""

    def recommended_max_memory(self) -> int:
        return 100

    def driver_allocated_memory(self) -> int:
        return 30

    def current_allocated_memory(self) -> int:
        return 25


@pytest.mark.parametrize("driver", [Driver(), CountingDriver()])
def test_what_an_allocator_keeps_unused_can_be_had(
    monkeypatch: pytest.MonkeyPatch, driver: object
) -> None:
    monkeypatch.setattr(torch_gauge, "backend_of", lambda _: driver)
    assert obtainable_bytes(torch.device("cuda:0")) == 70 + 20 - 10


def test_a_driver_that_does_not_tell_what_is_free_keeps_nothing_from_going_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = torch.device("xpu:0")
    for module in (torch_gauge, selftest):
        monkeypatch.setattr(module, "backend_of", lambda _: BuiltInDriver())
    assert obtainable_bytes(adapter) is None
    check_possible(90, adapter)
    with pytest.raises(ResourceExhausted) as refused:
        check_possible(91, adapter)
    assert refused.value.reason is Reason.DEVICE_OUT_OF_MEMORY
    assert SelfTest(adapter)._largest().quality is FigureQuality.UNKNOWN


def test_a_driver_in_trouble_is_not_taken_for_one_that_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(Driver):
        def mem_get_info(self, device: torch.device) -> tuple[int, int]:
            raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch_gauge, "backend_of", lambda _: Broken())
    with pytest.raises(RuntimeError, match="launch failure"):
        obtainable_bytes(torch.device("cuda:0"))


@pytest.mark.parametrize(
    ("driver", "values"),
    [
        (Driver(), (100, 70, 10, 20, 15, 5)),
        (CountingDriver(), (100, 70, 10, 20, 15, 5)),
        (CountingDriver(used=False), (100, 70, 0, 0, 0, 0)),
        (BuiltInDriver(), (90, None, 10, 20, 15, 5)),
        (UnifiedDriver(), (100, 70, 25, 30, None, None)),
        (object(), (None, None, None, None, None, None)),
    ],
)
def test_figures_are_what_a_driver_tells(
    monkeypatch: pytest.MonkeyPatch, driver: object, values: tuple[int | None, ...]
) -> None:
    gauge = TorchGauge(torch.device("cuda:0"))
    monkeypatch.setattr(gauge, "_backend", driver)
    figures = gauge.read(7, ())
    told = (
        figures.total,
        figures.free,
        figures.allocated,
        figures.reserved,
        figures.peak_allocated,
        figures.inactive_split,
    )
    assert tuple(figure.value for figure in told) == values
    assert all(figure.source for figure in told)
    assert (figures.leased_bytes, figures.largest_free.value) == (7, None)
