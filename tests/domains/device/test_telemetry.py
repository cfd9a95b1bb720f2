"""Load, temperature and power: from stand-in libraries, and of this processor for real."""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from domains.device.backends.readings import number
from domains.device.backends.telemetry import PlatformTelemetry
from domains.device.core.naming import name_devices
from domains.device.types import Device, DeviceKind, Load
from tests.fakes.device import PROCESSOR, card


def device(kind: DeviceKind, **changes: Any) -> Device:
    adapter = PROCESSOR if kind is DeviceKind.CPU else card(3, kind)
    return name_devices([replace(adapter, **changes)], ())[0]


NVIDIA = device(DeviceKind.CUDA, hardware_id="GPU-aaaa", slot="0000:3b:00")
AMD = device(DeviceKind.ROCM, slot="0000:03:00")


class Nvml(ModuleType):
    """pynvml with one card, whose number is not CUDA's."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.inits = 0
        self.refused: set[str] = set()

    def _answer(self, name: str, value: Any) -> Any:
        if name in self.refused:
            raise RuntimeError("Not Supported")
        return value

    def nvmlInit(self) -> None:
        self.inits += 1
        self._answer("init", None)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        assert uuid == "GPU-aaaa"
        return self._answer("handle", "the card")

    def nvmlDeviceGetHandleByPciBusId(self, address: str) -> str:
        assert address == "0000:3b:00.0"
        return "the card"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        assert handle == "the card"
        return self._answer("load", SimpleNamespace(gpu=42, memory=7))

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> Any:
        return self._answer("temperature", 61)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> Any:
        return self._answer("power", 71_500)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    library = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


class AmdSmi(ModuleType):
    """amdsmi with two cards; the second is the device."""

    AmdSmiTemperatureType = SimpleNamespace(EDGE="edge", HOTSPOT="hotspot")
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT="current")

    def __init__(self) -> None:
        super().__init__("amdsmi")
        self.temperatures: dict[str, Any] = {"edge": 55, "hotspot": 70}
        self.power: dict[str, Any] = {"current_socket_power": "N/A", "average_socket_power": 90}
        self.activity: Any = 80

    def amdsmi_init(self) -> None: ...

    def amdsmi_get_processor_handles(self) -> list[str]:
        return ["0000:01:00.0", "0000:03:00.0"]

    def amdsmi_get_gpu_device_bdf(self, handle: str) -> str:
        return handle.upper()

    def amdsmi_get_gpu_activity(self, handle: str) -> dict[str, Any]:
        assert handle == "0000:03:00.0"
        return {"gfx_activity": self.activity, "umc_activity": 3}

    def amdsmi_get_temp_metric(self, handle: str, sensor: str, metric: str) -> Any:
        return self.temperatures[sensor]

    def amdsmi_get_power_info(self, handle: str) -> dict[str, Any]:
        return self.power


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch) -> AmdSmi:
    library = AmdSmi()
    monkeypatch.setitem(sys.modules, "amdsmi", library)
    return library


def test_nvidia_cards_are_found_by_uuid_and_told_in_the_contracts_units(nvml: Nvml) -> None:
    telemetry = PlatformTelemetry()

    assert telemetry.read(NVIDIA) == Load(0.42, 61.0, 71.5)
    assert telemetry.read(NVIDIA) == Load(0.42, 61.0, 71.5)
    assert nvml.inits == 1


def test_nvidia_cards_without_a_uuid_are_found_by_their_address(nvml: Nvml) -> None:
    nvml.refused.add("handle")
    by_address = device(DeviceKind.CUDA, hardware_id="0000:3b:00", slot="0000:3b:00")

    assert PlatformTelemetry().read(by_address).temperature_celsius == 61.0


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ("load", Load(None, 61.0, 71.5)),
        ("temperature", Load(0.42, None, 71.5)),
        ("power", Load(0.42, 61.0, None)),
        ("handle", Load()),
        ("init", Load()),
    ],
)
def test_a_refused_figure_costs_itself_only(nvml: Nvml, refused: str, told: Load) -> None:
    nvml.refused.add(refused)

    assert PlatformTelemetry().read(NVIDIA) == told


def test_a_driver_that_comes_later_is_asked_again(nvml: Nvml) -> None:
    telemetry = PlatformTelemetry()
    nvml.refused.add("init")
    assert telemetry.read(NVIDIA) == Load()
    nvml.refused.clear()

    assert telemetry.read(NVIDIA).load == 0.42


@pytest.mark.parametrize("told_by", ["pynvml", "amdsmi"])
def test_without_the_library_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, told_by: str
) -> None:
    monkeypatch.setitem(sys.modules, told_by, None)  # importing it raises ImportError

    assert PlatformTelemetry().read(NVIDIA if told_by == "pynvml" else AMD) == Load()


def test_amd_cards_are_found_by_address(smi: AmdSmi) -> None:
    assert PlatformTelemetry().read(AMD) == Load(0.8, 55.0, 90.0)
    elsewhere = device(DeviceKind.ROCM, slot="0000:ff:00")
    assert PlatformTelemetry().read(elsewhere) == Load()
    nowhere = device(DeviceKind.ROCM)
    assert PlatformTelemetry().read(nowhere) == Load()


def test_an_amd_card_without_an_edge_sensor_tells_its_hottest_spot(smi: AmdSmi) -> None:
    smi.temperatures["edge"] = "N/A"
    smi.activity = 0xFFFF
    smi.power = {"current_socket_power": 0xFFFFFFFF, "socket_power": 33}

    assert PlatformTelemetry().read(AMD) == Load(None, 70.0, 33.0)


@pytest.mark.parametrize("kind", [DeviceKind.XPU, DeviceKind.MPS, DeviceKind.DIRECT_ML])
def test_where_nothing_tells_nothing_is_made_up(kind: DeviceKind) -> None:
    assert PlatformTelemetry().read(device(kind)) == Load()


@pytest.mark.parametrize(
    ("told", "figure"),
    [(3, 3.0), (2.5, 2.5), (0, 0.0), ("N/A", None), (None, None), (True, None),
     (float("nan"), None), (0xFFFF, None), (2**64 - 1, None)],
)  # fmt: skip
def test_only_figures_are_figures(told: object, figure: float | None) -> None:
    assert number(lambda: told) == figure


def test_a_busy_processor_is_told_as_such() -> None:
    """One thread that does nothing but work keeps one core busy."""
    telemetry = PlatformTelemetry()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            sum(range(10_000))

    worker = threading.Thread(target=work)
    worker.start()
    load = telemetry.read(device(DeviceKind.CPU))
    stop.set()
    worker.join()

    assert load.load is not None
    assert 0.5 / (psutil.cpu_count() or 1) < load.load <= 1.0
    assert load.power_watts is None


def test_the_processors_temperature_is_its_hottest_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {
        "coretemp": [SimpleNamespace(current=50.0), SimpleNamespace(current=58.0)],
        "nvme": [SimpleNamespace(current=80.0)],
    }
    telemetry = PlatformTelemetry()
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: told, raising=False)
    assert telemetry.read(device(DeviceKind.CPU)).temperature_celsius == 58.0
    monkeypatch.setattr(psutil, "sensors_temperatures", dict, raising=False)
    assert telemetry.read(device(DeviceKind.CPU)).temperature_celsius is None
    monkeypatch.delattr(psutil, "sensors_temperatures")
    assert telemetry.read(device(DeviceKind.CPU)).temperature_celsius is None
