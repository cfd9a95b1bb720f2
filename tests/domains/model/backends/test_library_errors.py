"""What libraries raise over a model's files is the model's; what runs out is not."""

from __future__ import annotations

import errno

import pytest

from domains.errors import FailedPrecondition, InvalidArgument, Reason
from domains.model.backends.library_errors import blamed_on


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), Exception("plain")])
def test_the_component_is_blamed_and_nothing_is_quoted(error: Exception) -> None:
    with pytest.raises(FailedPrecondition) as blamed, blamed_on("unet", "config.json"):
        raise error
    assert blamed.value.reason is Reason.MODEL_CONFIG_INVALID
    assert blamed.value.metadata == {
        "component": "unet",
        "file": "unet/config.json",
        "cause": type(error).__name__,
    }
    assert str(error) not in blamed.value.message


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("typed already"),
        MemoryError(),
        OSError(errno.EMFILE, "no more files"),
        RuntimeError("can't start new thread"),
        ImportError("libx.so: failed to map segment from shared object"),
        ModuleNotFoundError("No module named 'transformers'"),
        KeyboardInterrupt(),
    ],
)
def test_what_is_no_models_fault_stays_what_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, blamed_on("unet"):
        raise error
    assert raised.value is error
