"""As a torch writes it that knows nothing of some kinds."""

__version__ = "9.9.1+cu130"
cuda: str | None = "13.0"
hip: str | None = None
