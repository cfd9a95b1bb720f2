"""Errors of image generation."""

from __future__ import annotations

from domains.errors import FailedPrecondition, InvalidArgument, Reason


class InvalidGeneration(InvalidArgument):
    """The request breaks rules of its content; all of them are listed."""


class LoraRefused(FailedPrecondition):
    """A LoRA cannot be applied: `tensor` is the tensor or layer that it is about."""

    def __init__(self, model_id: str, reason: Reason, tensor: str, description: str) -> None:
        super().__init__(
            f"LoRA {model_id} cannot be applied: {description} Leave it out, or choose "
            "another.",
            reason=reason,
            metadata={"model_id": model_id, "tensor": tensor},
        )
