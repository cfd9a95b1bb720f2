"""A driver that answers with an error."""


def device_count() -> int:
    raise RuntimeError("Unknown error -2147467259")
