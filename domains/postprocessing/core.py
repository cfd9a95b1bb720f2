"""Which postprocessors there are and whether they can be used."""

from __future__ import annotations

from domains.postprocessing.types import Postprocessor, PostprocessorKind

_DESCRIPTIONS = {
    PostprocessorKind.UPSCALE: "Enlarges a picture with a network, in tiles.",
    PostprocessorKind.FACE_RESTORE: "Redraws faces.",
    PostprocessorKind.SHARPEN: "Makes edges crisper by an unsharp mask.",
    PostprocessorKind.DENOISE: "Smooths noise and keeps edges.",
    PostprocessorKind.COLOR: "Changes brightness, contrast, saturation and gamma.",
    PostprocessorKind.RESIZE: "Computes a picture at another size.",
    PostprocessorKind.CROP: "Cuts out a part of a picture.",
    PostprocessorKind.WATERMARK: "Puts a text or a picture on top.",
    PostprocessorKind.SAFETY: "Scores a picture and applies a policy.",
    PostprocessorKind.CONTROL: "Makes a control picture, such as a pose or a depth map.",
}
_NOT_YET = "This version does not have it yet."


class PostprocessorInventory:
    """Knows every kind of the contract; none can be used in this version."""

    def list(
        self, kind: PostprocessorKind | None = None, *, ready_only: bool = False
    ) -> tuple[Postprocessor, ...]:
        """In the contract's order; `kind` None means all."""
        listed = (
            Postprocessor(known.value, known, description, ready=False, explanation=_NOT_YET)
            for known, description in _DESCRIPTIONS.items()
            if kind in (None, known)
        )
        return tuple(entry for entry in listed if entry.ready or not ready_only)
