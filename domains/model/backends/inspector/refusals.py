"""How a file is refused: a reason, and a sentence that says what to do."""

from __future__ import annotations

from domains.codec import one_line
from domains.errors import FailedPrecondition, Reason

_LONGEST_NAME = 200


def unsafe(name: str) -> FailedPrecondition:
    """MODEL_UNSAFE_PICKLE: a pickle asks for something that is not on the list."""
    shown = one_line(name, _LONGEST_NAME)
    return FailedPrecondition(
        f"The pickle asks for {shown}, which no weights need; it is not opened. Get the model "
        "as safetensors, or from somebody you trust.",
        reason=Reason.MODEL_UNSAFE_PICKLE,
        metadata={"global": shown},
    )


def bad_archive(what: str) -> FailedPrecondition:
    """MODEL_ARCHIVE_INVALID: the zip archive of the file is not as torch writes one."""
    return FailedPrecondition(
        f"The archive in the file {what}; fetch the model again.",
        reason=Reason.MODEL_ARCHIVE_INVALID,
    )


def bad_structure(what: str, *, tensor: str = "") -> FailedPrecondition:
    """MODEL_STRUCTURE_INVALID: the file holds something other than dense tensors."""
    name = one_line(tensor, _LONGEST_NAME)
    return FailedPrecondition(
        f"The file {what}, so it is no model's weights; get the model as safetensors.",
        reason=Reason.MODEL_STRUCTURE_INVALID,
        metadata={"tensor": name} if name else {},
    )


def bad_shape(tensor: str, what: str) -> FailedPrecondition:
    """MODEL_SHAPE_INVALID: a tensor does not lie within its numbers."""
    name = one_line(tensor, _LONGEST_NAME)
    return FailedPrecondition(
        f"The file has a tensor {what}; fetch the model again.",
        reason=Reason.MODEL_SHAPE_INVALID,
        metadata={"tensor": name} if name else {},
    )


def bad_header(what: str) -> FailedPrecondition:
    """MODEL_HEADER_INVALID: the part of a file that describes the rest cannot be read."""
    return FailedPrecondition(
        f"The file {what}; fetch the model again.", reason=Reason.MODEL_HEADER_INVALID
    )


def too_large(what: str) -> FailedPrecondition:
    """MODEL_HEADER_TOO_LARGE: that part is larger than any honest one."""
    return FailedPrecondition(
        f"The file {what}, more than any model needs.", reason=Reason.MODEL_HEADER_TOO_LARGE
    )


def truncated(what: str = "ends before its content does") -> FailedPrecondition:
    """MODEL_TRUNCATED: the file is shorter than it says."""
    return FailedPrecondition(
        f"The file {what}; fetch it again.", reason=Reason.MODEL_TRUNCATED
    )


def unsupported(what: str) -> FailedPrecondition:
    """MODEL_FORMAT_UNSUPPORTED: it is another kind of file."""
    return FailedPrecondition(f"The file {what}.", reason=Reason.MODEL_FORMAT_UNSUPPORTED)
