"""What a device can do, measured on it in a few seconds.

Each check stands alone: one that fails is a sentence in `problems`, or a capability that
is not there, and the others go on.
"""

from __future__ import annotations

import shutil
import statistics
import sysconfig
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from domains.device.backends.arithmetic import Arithmetic, relative_error, words_of
from domains.device.backends.liveness import computes
from domains.device.backends.torch_gauge import backend_of, free_bytes, in_main_memory
from domains.device.errors import DeviceLost
from domains.device.jobs import AttentionBackend, DataTypeFacts, SelfTestFacts, SelfTestJob
from domains.errors import DomainError
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted
from domains.values import ByteFigure, FigureQuality, TensorDataType

MOST_FREE_SHARE = 0.9
"""Of free device memory that one allocation is tried with."""
MAIN_MEMORY_BYTES = 256 << 20
"""Most that is tried in main memory, where trying more could harm other programs."""
_COPY_BYTES, _COPY_BYTES_IN_MAIN_MEMORY = 256 << 20, 64 << 20
_REPEATS = 3
_ATTENTION = {
    AttentionBackend.FLASH: SDPBackend.FLASH_ATTENTION,
    AttentionBackend.EFFICIENT: SDPBackend.EFFICIENT_ATTENTION,
    AttentionBackend.CUDNN: SDPBackend.CUDNN_ATTENTION,
    AttentionBackend.MATH: SDPBackend.MATH,
}
_ATTENTION_ERROR = 1e-2  # of the half types that attention is tried in
_COMPILERS = ("g++", "clang++", "c++", "cl")


class SelfTest:
    """Measures one device; call it in the thread that computes there.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._backend = backend_of(device)
        self._problems: list[str] = []

    def __call__(self, job: SelfTestJob, context: JobContext) -> SelfTestFacts:
        """Measure.

        Args:
            job: Asks for nothing in particular.
            context: Hears when it begins, and is asked between checks whether to stop.

        Raises:
            DeviceLost: After a check the device computes nothing any more.
        """
        self._problems = []
        context.emit(PhaseStarted(Phase.MEASURING))
        arithmetic = Arithmetic(self._device, self._synchronize)
        data_types: list[DataTypeFacts] = []
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch explains there what it cannot do
            for data_type in arithmetic.candidates():
                context.check_stop()
                facts, problem = arithmetic.measure(data_type)
                data_types.append(facts)
                self._problems += [problem] if problem else []
            working = {facts.data_type for facts in data_types if facts.works}
            context.check_stop()
            inwards, outwards, pinned = self._checked(
                "copying", self._copies, (0.0, 0.0, False)
            )
            attention: list[AttentionBackend] = []
            for backend in _ATTENTION:
                context.check_stop()
                if self._attends(backend, working):
                    attention.append(backend)
            context.check_stop()
            largest = self._checked(
                "allocating", self._largest, ByteFigure.unknown("the check failed")
            )
            context.check_stop()
            if not computes(self._device):
                raise DeviceLost
        return SelfTestFacts(
            data_types=tuple(data_types),
            largest_allocation=largest,
            attention_backends=tuple(attention),
            has_float64=TensorDataType.FLOAT64 in working,
            host_to_device_gbps=inwards,
            device_to_host_gbps=outwards,
            has_pinned_memory=pinned,
            has_compilation=self._compiles(),
            measure_time=datetime.now(UTC),
            software_versions=_versions(),
            problems=tuple(self._problems),
        )

    def _checked(self, what: str, check: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return check()
        except DomainError:
            raise
        except Exception as error:  # Drivers raise whatever they like.
            self._problems.append(f"The check of {what} failed: {words_of(error)}.")
            return otherwise

    def _copies(self) -> tuple[float, float, bool]:
        """Speed to the device and back in 10^9 bytes per second, and whether pinned."""
        here = in_main_memory(self._device)
        size = _COPY_BYTES_IN_MAIN_MEMORY if here else _COPY_BYTES
        pinned = False
        host = torch.ones(size, dtype=torch.uint8)
        if not here:
            try:
                host = host.pin_memory()
                pinned = True
            except RuntimeError:
                pass  # has_pinned_memory says so
        there = torch.empty(size, dtype=torch.uint8, device=self._device)
        inwards = self._speed(size, lambda: there.copy_(host))
        host.zero_()
        outwards = self._speed(size, lambda: host.copy_(there))
        if not bool((host == 1).all()):
            self._problems.append("Bytes copied to the device and back are not the same.")
        return inwards, outwards, pinned

    def _speed(self, size: int, copy: Callable[[], object]) -> float:
        copy()  # the first one sets up
        self._synchronize()
        seconds = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            copy()
            self._synchronize()
            seconds.append(time.perf_counter() - began)
        return size / statistics.median(seconds) / 1e9

    def _attends(self, backend: AttentionBackend, working: set[TensorDataType]) -> bool:
        """Whether that implementation runs here and computes right."""
        preferred = (TensorDataType.FLOAT16, TensorDataType.BFLOAT16)
        chosen = next((half for half in preferred if half in working), TensorDataType.FLOAT32)
        data_type = getattr(torch, chosen.value)
        generator = torch.Generator().manual_seed(1)
        query, key, value = (
            torch.randn(1, 4, 128, 64, generator=generator).to(data_type) for _ in range(3)
        )
        try:
            with sdpa_kernel(_ATTENTION[backend]):
                found = scaled_dot_product_attention(
                    query.to(self._device), key.to(self._device), value.to(self._device)
                )
            out = found.cpu().double()
        except Exception:  # Not here; that it is not there is the answer.
            return False
        with sdpa_kernel(SDPBackend.MATH):
            wanted = scaled_dot_product_attention(query.double(), key.double(), value.double())
        if relative_error(out, wanted) > _ATTENTION_ERROR:
            self._problems.append(f"Attention by {backend.value} computes wrong results.")
            return False
        return True

    def _largest(self) -> ByteFigure:
        """The largest single allocation that works."""
        if in_main_memory(self._device):
            size = min(MAIN_MEMORY_BYTES, psutil.virtual_memory().available // 4)
            torch.full((size,), 1, dtype=torch.uint8)
            source = f"torch.full, not tried beyond {size} bytes as it is main memory"
            return ByteFigure(size, FigureQuality.ESTIMATED, source)
        if hasattr(self._backend, "empty_cache"):
            self._backend.empty_cache()
        free = free_bytes(self._device)
        if free is None:
            return ByteFigure.unknown("the platform tells no free memory to try with")
        most = int(free * MOST_FREE_SHARE)
        works, fails = 0, most + 1
        size = most
        while size > works and fails - works > most // 32:
            if self._fits(size):
                works = size
            else:
                fails = size
            size = (works + min(fails, most + 1)) // 2 if fails <= most else most
        self._backend.empty_cache()
        share = f"{MOST_FREE_SHARE:.0%} of free memory"
        return ByteFigure.measured(works, f"torch.empty, tried up to {share}")

    def _fits(self, size: int) -> bool:
        try:
            torch.empty(size, dtype=torch.uint8, device=self._device)
        except (RuntimeError, MemoryError):
            self._backend.empty_cache()
            return False
        self._backend.empty_cache()
        return True

    def _compiles(self) -> bool:
        """Whether what torch.compile needs is there; nothing is compiled to find out."""
        if in_main_memory(self._device):
            headers = Path(sysconfig.get_path("include"), "Python.h")
            return headers.exists() and any(map(shutil.which, _COMPILERS))
        if not hasattr(self._backend, "Stream"):
            return False  # torch has code generators for devices with streams alone
        from torch.utils._triton import has_triton

        return bool(has_triton())

    def _synchronize(self) -> None:
        if hasattr(self._backend, "synchronize"):
            self._backend.synchronize()


def _versions() -> dict[str, str]:
    versions = {"torch": str(torch.__version__)}
    for name in ("cuda", "hip", "xpu"):
        version = getattr(torch.version, name, None)
        if version:
            versions[name] = str(version)
    return versions
