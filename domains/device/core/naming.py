"""Ids and aliases of devices: the same adapter keeps its id, no name means two devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from domains.device.types import Adapter, Device, DeviceKind

# Which kind is used where nothing is said: the faster and better proven first.
PREFERENCE = (
    DeviceKind.CUDA,
    DeviceKind.ROCM,
    DeviceKind.XPU,
    DeviceKind.MPS,
    DeviceKind.DIRECTML,
    DeviceKind.CPU,
)
ACCELERATORS = PREFERENCE[:-1]
_GONE = "it was found before and is not there any more"

# What people and libraries call each kind; every word also goes with an index.
_WORDS = {
    DeviceKind.CPU: ("cpu",),
    DeviceKind.CUDA: ("cuda",),
    DeviceKind.ROCM: ("rocm", "hip"),
    DeviceKind.XPU: ("xpu",),
    DeviceKind.MPS: ("mps", "metal"),
    DeviceKind.DIRECTML: ("directml", "dml"),
}
# Torch's own words; an index with them counts as torch does and comes from the probe.
_TORCH_WORDS = {DeviceKind.ROCM: "cuda", DeviceKind.DIRECTML: "privateuseone"}


def name_devices(adapters: Sequence[Adapter], previous: Sequence[Device]) -> tuple[Device, ...]:
    """Give adapters ids and aliases, best kind first.

    An adapter that `previous` has keeps its id; others get the next free number of their
    kind, in order of slot. Devices of `previous` that are gone stay, marked as lost.
    """
    known = {_identity(device): device.device_id for device in previous}
    numbers = {kind: _numbers(previous, kind) for kind in DeviceKind}
    named: dict[str, Device] = {}
    # Twins share a hardware id where one card is split; torch's names tell them apart.
    counts = Counter((adapter.kind, adapter.hardware_id) for adapter in adapters)
    for adapter in sorted(adapters, key=_order):
        if counts[adapter.kind, adapter.hardware_id] > 1:
            adapter = replace(
                adapter, hardware_id=f"{adapter.hardware_id}/{adapter.torch_device}"
            )
        device_id = known.get(_identity(adapter))
        if device_id is None:
            taken = numbers[adapter.kind]
            number = next(n for n in range(len(taken) + 1) if n not in taken)
            taken.add(number)
            device_id = f"{adapter.kind.value}:{number}"
        named[device_id] = _device(device_id, adapter)
    for device in previous:
        if device.device_id not in named:
            named[device.device_id] = replace(device, lost=True, explanation=_GONE)
    return _with_aliases(sorted(named.values(), key=_rank))


def kinds_meant(name: str) -> tuple[DeviceKind, ...]:
    """The kinds that a device's name speaks of; none for an unknown word."""
    word = name.partition(":")[0]
    if word == "gpu":
        return ACCELERATORS
    return tuple(
        kind
        for kind in PREFERENCE
        if word in _WORDS[kind] or (kind in _TORCH_WORDS and word == _TORCH_WORDS[kind])
    )


def _identity(thing: Adapter | Device) -> tuple[DeviceKind, str]:
    return thing.kind, thing.hardware_id or thing.torch_device


def _numbers(devices: Iterable[Device], kind: DeviceKind) -> set[int]:
    return {_number(device) for device in devices if device.kind is kind}


def _number(device: Device) -> int:
    return int(device.device_id.rpartition(":")[2])


def _order(adapter: Adapter) -> tuple[str, str, int, str]:
    # cuda:10 comes after cuda:2.
    name = adapter.torch_device
    return adapter.slot, adapter.hardware_id, len(name), name


def _rank(device: Device) -> tuple[int, int]:
    return PREFERENCE.index(device.kind), _number(device)


def _device(device_id: str, adapter: Adapter) -> Device:
    return Device(
        device_id=device_id,
        kind=adapter.kind,
        name=adapter.name,
        vendor=adapter.vendor,
        torch_device=adapter.torch_device,
        total_memory=adapter.total_memory,
        driver_version=adapter.driver_version,
        runtime_version=adapter.runtime_version,
        hardware_id=adapter.hardware_id,
        unified_memory=adapter.unified_memory,
        explanation=adapter.explanation,
    )


def _with_aliases(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Names besides the id; whoever comes first in `devices` has the first claim."""
    taken = {device.device_id for device in devices}
    aliases: dict[str, list[str]] = {device.device_id: [] for device in devices}

    def claim(device: Device, name: str) -> None:
        if name not in taken:
            taken.add(name)
            aliases[device.device_id].append(name)

    for device in devices:
        for word in _WORDS[device.kind]:
            claim(device, word)
            claim(device, f"{word}:{_number(device)}")
    for position, device in enumerate(d for d in devices if d.kind in ACCELERATORS):
        claim(device, "gpu")
        claim(device, f"gpu:{position}")
    for device in devices:
        claim(device, device.torch_device)
        if device.kind in _TORCH_WORDS:
            claim(device, _TORCH_WORDS[device.kind])
    return tuple(
        replace(device, aliases=tuple(aliases[device.device_id])) for device in devices
    )
