"""A driver with two adapters."""


def device_count() -> int:
    return 2


def device(index: int) -> str:
    return f"privateuseone:{index}"


def device_name(index: int) -> str:
    return ["NVIDIA GeForce GTX 1080", "Intel(R) UHD Graphics"][index]
