"""A driver whose adapter has a name beyond ASCII."""


def device_count() -> int:
    return 1


def device(index: int) -> str:
    return f"privateuseone:{index}"


def device_name(index: int) -> str:
    return "Intel® Graphics"
