"""As torch writes it for a processor alone."""

__version__ = "9.9.1+cpu"
cuda: str | None = None
hip: str | None = None
xpu: str | None = None
