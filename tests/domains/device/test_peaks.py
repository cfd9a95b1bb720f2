"""The most memory during a stretch, also when another one begins within it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from domains.device.backends import peaks
from domains.device.backends.peaks import Stretch, greatest_peak
from domains.values import FigureQuality


class Allocator(ModuleType):
    """Counts one peak, as torch does for a card."""

    def __init__(self) -> None:
        super().__init__("torch.fake")
        self.held = self.most = 0

    def hold(self, size: int) -> None:
        """Tensors take so many bytes now."""
        self.held = size
        self.most = max(self.most, size)

    def max_memory_allocated(self, device: str) -> int:
        return self.most

    def reset_peak_memory_stats(self, device: str) -> None:
        self.most = self.held


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    monkeypatch.setattr(peaks, "_forgotten", {})
    return Allocator()


def test_a_stretch_counts_from_its_beginning(allocator: Allocator) -> None:
    allocator.hold(100)
    allocator.hold(10)
    stretch = Stretch(allocator, "fake:0")
    allocator.hold(40)
    allocator.hold(20)
    assert stretch.peak().value == 40
    assert stretch.peak().source == "torch.fake.max_memory_allocated()"
    assert greatest_peak(allocator, "fake:0") == 100


def test_a_stretch_within_another_leaves_its_peak(allocator: Allocator) -> None:
    outer = Stretch(allocator, "fake:0")
    allocator.hold(70)
    allocator.hold(10)
    inner = Stretch(allocator, "fake:0")
    allocator.hold(30)
    assert inner.peak().value == 30
    assert outer.peak().value == 70
    allocator.hold(90)
    assert outer.peak().value == inner.peak().value == 90


def test_a_stretch_may_begin_before_anything_was_done(
    allocator: Allocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    reset = allocator.reset_peak_memory_stats

    def strict(device: str) -> None:
        assert begun, "torch raises before the device was initialised"
        reset(device)

    monkeypatch.setattr(allocator, "reset_peak_memory_stats", strict)
    monkeypatch.setattr(allocator, "init", lambda: begun.append("init"), raising=False)
    allocator.hold(5)
    assert Stretch(allocator, "fake:0").peak().value == 5


def test_devices_have_peaks_of_their_own(allocator: Allocator) -> None:
    stretch = Stretch(allocator, "fake:0")
    allocator.hold(70)
    allocator.hold(0)
    Stretch(Allocator(), "fake:1")
    assert stretch.peak().value == 70


def test_a_kind_of_device_that_counts_no_peak_is_no_error() -> None:
    figure = Stretch(ModuleType("torch.other"), "other:0").peak()
    assert figure.quality is FigureQuality.UNKNOWN


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts for a stretch")
def test_a_processor_counts_the_process() -> None:
    try:
        peaks._CLEAR_REFS.write_text("5")
    except OSError:
        pytest.skip("this system does not let its peak be reset")
    held = bytearray(64 * 2**20)
    del held
    stretch = Stretch(None, "cpu")
    before = stretch.peak().value
    assert before is not None
    after, again = before, []
    # What the system takes back of the process meanwhile has to be outweighed too.
    for _ in range(16):
        again.append(bytearray(64 * 2**20))
        again[-1][::4096] = b"x" * len(again[-1][::4096])
        after = stretch.peak().value or 0
        if after - before > 32 * 2**20:
            break
    again.clear()
    assert after - before > 32 * 2**20
    assert peaks.greatest_resident() >= before
