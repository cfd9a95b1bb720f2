"""Whether a device computes right in a data type, and how fast it multiplies matrices."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from domains.device.backends.torch_gauge import in_main_memory
from domains.device.jobs import DataTypeFacts
from domains.values import TensorDataType

# Torch's types, and the greatest relative error that is right:
# a few units in the last place, as results of several operations are compared. The inputs
# are rounded to the type before the reference is computed, so their rounding is not in it.
_TYPES: dict[TensorDataType, tuple[torch.dtype, float]] = {
    TensorDataType.FLOAT32: (torch.float32, 1e-4),
    TensorDataType.FLOAT16: (torch.float16, 5e-3),
    TensorDataType.BFLOAT16: (torch.bfloat16, 4e-2),
    TensorDataType.FLOAT64: (torch.float64, 1e-12),
    TensorDataType.FLOAT8_E4M3: (torch.float8_e4m3fn, 4e-2),
    TensorDataType.FLOAT8_E5M2: (torch.float8_e5m2, 4e-2),
}
_EIGHT_BITS = {torch.float8_e4m3fn, torch.float8_e5m2}
# DirectML ends the whole process on these instead of raising an error.
_FATAL = {
    "privateuseone": frozenset(
        {TensorDataType.BFLOAT16, TensorDataType.FLOAT8_E4M3, TensorDataType.FLOAT8_E5M2}
    )
}
_SMALLEST_EDGE, _LARGEST_EDGE = 256, 8192
_LARGEST_EDGE_IN_MAIN_MEMORY = 1024
_LONG_ENOUGH = 4e-3  # seconds of one product, so that starting it does not count
_REPEATS = 5
_BUDGET = 0.2  # seconds for the repeats together


class Arithmetic:
    """Tries one device's data types.

    Args:
        device: The device.
        synchronize: Waits until everything queued there is done.
    """

    def __init__(self, device: torch.device, synchronize: Callable[[], None]) -> None:
        self._device = device
        self._synchronize = synchronize

    def candidates(self) -> tuple[TensorDataType, ...]:
        """The types that can be tried without harm."""
        fatal = _FATAL.get(self._device.type, frozenset())
        return tuple(each for each in _TYPES if each not in fatal)

    def measure(self, name: TensorDataType) -> tuple[DataTypeFacts, str]:
        """Try a type; the text is a problem, empty when there is none.

        A type that the device refuses is no problem, except float32, which nothing does
        without; one that it computes wrongly is.
        """
        data_type, most = _TYPES[name]
        try:
            distance = self._error(data_type)
        except Exception as error:  # Refused, in whatever way the driver likes.
            refusal = f"float32 does not compute: {words_of(error)}."
            problem = refusal if data_type is torch.float32 else ""
            return DataTypeFacts(name, False, 0.0, 0.0), problem
        if not distance <= most:
            problem = f"{name.value} computes wrong results: relative error {distance:.2g}."
            return DataTypeFacts(name, False, distance, 0.0), problem
        try:
            speed = self._tflops(data_type)
        except Exception:
            problem = f"{name.value} computes right but fails on larger matrices."
            return DataTypeFacts(name, False, distance, 0.0), problem
        return DataTypeFacts(name, True, distance, speed), ""

    def _error(self, data_type: torch.dtype) -> float:
        """The greatest relative error of a few operations."""
        one, other = _random(96, 128, seed=1), _random(128, 64, seed=2)
        if data_type in _EIGHT_BITS:
            narrow = one.to(data_type), other.to(data_type)
            found = self._product(*(part.to(self._device) for part in narrow))
            return relative_error(found.cpu().double(), narrow[0].double() @ narrow[1].double())
        picture, kernel = _random(1, 8, 24, 24, seed=3), _random(8, 8, 3, 3, seed=4)
        errors = []
        for operation, inputs in (
            (torch.matmul, (one, other)),
            (lambda x, y: functional.silu(x) * y + x, (one, one * 0.5)),
            (lambda x, y: functional.conv2d(x, y, padding=1), (picture, kernel)),
            (lambda x: torch.softmax(x, dim=-1), (one,)),
        ):
            rounded = [part.to(data_type) for part in inputs]
            wanted = operation(*(part.double() for part in rounded))
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                found = operation(*(part.to(self._device) for part in rounded))
            errors.append(relative_error(found.cpu().double(), wanted))
        return max(errors)

    def _tflops(self, data_type: torch.dtype) -> float:
        here = in_main_memory(self._device)
        largest = _LARGEST_EDGE_IN_MAIN_MEMORY if here else _LARGEST_EDGE
        edge = _SMALLEST_EDGE
        while True:
            one = _random(edge, edge, seed=5).to(data_type).to(self._device)
            self._seconds(one)  # the first one sets up
            # The better of two: what disturbs a machine is never to its advantage.
            seconds = min(self._seconds(one), self._seconds(one))
            if seconds >= _LONG_ENOUGH or edge >= largest:
                break
            edge *= 2
        repeats = max(1, min(_REPEATS, round(_BUDGET / seconds)))
        seconds = statistics.median(self._seconds(one) for _ in range(repeats))
        return 2 * edge**3 / seconds / 1e12

    def _seconds(self, one: torch.Tensor) -> float:
        self._synchronize()
        began = time.perf_counter()
        self._product(one, one)
        self._synchronize()
        return time.perf_counter() - began

    def _product(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        if one.dtype not in _EIGHT_BITS:
            return one @ other
        unit = torch.ones((), device=self._device)
        # The second factor is wanted column by column; at most one may be e5m2.
        columns = other.t().contiguous().t()
        if columns.dtype is torch.float8_e5m2:
            columns = columns.to(torch.float8_e4m3fn)
        return torch._scaled_mm(one, columns, unit, unit, out_dtype=torch.bfloat16)


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """||found - wanted|| / ||wanted||; infinite where a result is not finite."""
    error = float((found - wanted).norm() / wanted.norm())
    return error if math.isfinite(error) else math.inf


def words_of(error: BaseException) -> str:
    """An error's first line, cut and printable."""
    line = (str(error) or type(error).__name__).splitlines()[0][:200]
    return "".join(letter if letter.isprintable() else " " for letter in line).rstrip(".")


def _random(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float32)
