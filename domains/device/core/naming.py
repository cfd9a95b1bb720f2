"""Ids and aliases of devices: the same adapter keeps its id, no name means two devices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from domains.device.types import TRAITS, Adapter, Device, DeviceKind

# Which kind is used where nothing is said: the faster and better proven first.
PREFERENCE = (
    DeviceKind.CUDA,
    DeviceKind.ROCM,
    DeviceKind.XPU,
    DeviceKind.MPS,
    DeviceKind.DIRECT_ML,
    DeviceKind.CPU,
)
ACCELERATORS = PREFERENCE[:-1]
CLUSTER = "ray"
"""What the ids of other machines' devices begin with (`ray:node-a:cpu:0`)."""
_GONE = "it was found before and is not there any more"

# What people and libraries call each kind; every word also goes with an index.
_WORDS = {
    DeviceKind.CPU: ("cpu",),
    DeviceKind.CUDA: ("cuda",),
    DeviceKind.ROCM: ("rocm", "hip"),
    DeviceKind.XPU: ("xpu",),
    DeviceKind.MPS: ("mps", "metal"),
    DeviceKind.DIRECT_ML: ("directml", "dml"),
}
# Torch's own words; an index with them counts as torch does and comes from the probe.
_TORCH_WORDS = {DeviceKind.ROCM: "cuda", DeviceKind.DIRECT_ML: "privateuseone"}


def name_devices(
    adapters: Sequence[Adapter],
    previous: Sequence[Device],
    reasons: Mapping[DeviceKind, str] | None = None,
    unseen: str = "",
) -> tuple[Device, ...]:
    """Give adapters ids and aliases, best kind first.

    An adapter that `previous` has keeps its id; others get the next free number of their
    kind and machine, in order of slot. Devices of `previous` that are gone stay, marked as
    lost. Those of other machines go by their id alone: every alias is of this machine.

    Args:
        adapters: What was found.
        previous: Devices known before, of this run or of earlier ones.
        reasons: Why kinds were not found, for the explanation of lost devices.
        unseen: Why other machines could not be looked at, for the same.
    """
    known = {
        (device.node, device.kind, device.identity): device.device_id for device in previous
    }
    numbers: dict[tuple[str, DeviceKind], set[int]] = defaultdict(set)
    for device in previous:
        numbers[device.node, device.kind].add(_number(device))
    named: dict[str, Device] = {}
    for adapter, identity in _identified(adapters):
        device_id = known.get((adapter.node, adapter.kind, identity))
        if device_id is None:
            taken = numbers[adapter.node, adapter.kind]
            number = next(n for n in range(len(taken) + 1) if n not in taken)
            taken.add(number)
            device_id = _id(adapter, number)
        named[device_id] = _device(device_id, identity, adapter)
    for device in previous:
        if device.device_id not in named:
            why = unseen if device.node else (reasons or {}).get(device.kind, "")
            explanation = f"{_GONE}: {why}" if why else _GONE
            named[device.device_id] = replace(device, lost=True, explanation=explanation)
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


def _identified(adapters: Iterable[Adapter]) -> Iterator[tuple[Adapter, str]]:
    """Adapters in order of slot, each with what recognises it among its kind.

    That is the identity the platform gives it, else its slot, else its name. Twins, such
    as parts of one split card or two cards of a driver that tells names only, are counted
    in their order: which is which then rests on that order staying.
    """
    seen: Counter[tuple[str, DeviceKind, str]] = Counter()
    for adapter in sorted(adapters, key=_order):
        identity = adapter.hardware_id or adapter.slot or adapter.name
        if TRAITS[adapter.kind].one_per_machine:
            identity = ""  # the same whatever its name says today
        twin = seen[adapter.node, adapter.kind, identity]
        seen[adapter.node, adapter.kind, identity] += 1
        yield adapter, f"{identity}#{twin}" if twin else identity


def _id(adapter: Adapter, number: int) -> str:
    own = f"{adapter.kind.value}:{number}"
    return f"{CLUSTER}:{adapter.node}:{own}" if adapter.node else own


def _number(device: Device) -> int:
    return int(device.device_id.rpartition(":")[2])


def _order(adapter: Adapter) -> tuple[str, str, int, str]:
    # cuda:10 comes after cuda:2.
    name = adapter.torch_device
    return adapter.slot, adapter.hardware_id, len(name), name


def _rank(device: Device) -> tuple[int, str, int]:
    return PREFERENCE.index(device.kind), device.node, _number(device)


def _device(device_id: str, identity: str, adapter: Adapter) -> Device:
    return Device(
        device_id=device_id,
        identity=identity,
        slot=adapter.slot,
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
        node=adapter.node,
    )


def _with_aliases(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Names besides the id; whoever comes first in `devices` has the first claim.

    Words that mean "the best one" go to devices that are there before they go to lost ones.
    """
    taken = {device.device_id for device in devices}
    aliases: dict[str, list[str]] = {device.device_id: [] for device in devices}

    def claim(device: Device, name: str) -> None:
        if name not in taken:
            taken.add(name)
            aliases[device.device_id].append(name)

    there_first = sorted((d for d in devices if not d.node), key=lambda device: device.lost)
    for device in there_first:
        for word in _WORDS[device.kind]:
            claim(device, word)
            claim(device, f"{word}:{_number(device)}")
    for position, device in enumerate(d for d in there_first if d.kind in ACCELERATORS):
        claim(device, "gpu")
        claim(device, f"gpu:{position}")
    for device in there_first:
        claim(device, device.torch_device)
        if device.kind in _TORCH_WORDS:
            claim(device, _TORCH_WORDS[device.kind])
    return tuple(
        replace(device, aliases=tuple(aliases[device.device_id])) for device in devices
    )
