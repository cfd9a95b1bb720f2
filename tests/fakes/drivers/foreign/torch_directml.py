"""A driver of a system that speaks French, without an adapter."""


def device_count() -> int:
    raise RuntimeError("Le périphérique spécifié est introuvable")
