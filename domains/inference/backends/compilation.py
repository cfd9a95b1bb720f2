"""A model's networks with compiled code in their place, and without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from domains.inference.backends.compiled.call import CodeCall
from domains.inference.backends.compiled.order import Subject
from domains.inference.backends.compiled.shelf import CodeShelf
from domains.inference.backends.device import Numerics
from domains.inference.backends.step_graphs import Recorder
from domains.inference.backends.walk import modules_of

# How many have each network run without its code now; none lasts longer for being known here.
_ASIDE: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def use_code(
    network: nn.Module,
    part: str,
    numerics: Numerics,
    shelf: CodeShelf,
    recorder: Callable[[], Recorder | None],
) -> None:
    """Have compiled code run for a module of a network, as soon as there is some that pays.

    For before a picture: what has come since the one before is tried, which takes a second.
    Nothing is done inside `without_compiled_code` of the network: where pictures share passes,
    later ones begin in the middle of those before.

    Args:
        network: One of diffusers, in `numerics`.
        part: The module's path in it; empty for all of it.
        numerics: What it computes in.
        shelf: Has the code.
        recorder: Gives a new one for the trial; None where calls are not recorded.
    """
    if network in _ASIDE:
        return
    subject = Subject(network, part, numerics.channels_last)
    module = subject.module
    if not isinstance(module._compiled_call_impl, CodeCall):
        module._compiled_call_impl = CodeCall(subject, shelf)
    module._compiled_call_impl.adopt(recorder())


def runs_code(module: nn.Module) -> bool:
    """Whether compiled code runs for some calls of a module."""
    call = module._compiled_call_impl
    return isinstance(call, CodeCall) and call.adopted > 0


def code_answers(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether compiled code runs for a call of a module with these arguments."""
    call = module._compiled_call_impl
    return isinstance(call, CodeCall) and call.answers(args, kwargs)


@contextmanager
def noted_calls(module: nn.Module) -> Iterator[list[bool]]:
    """For each call inside of a module that may have compiled code, whether that ran."""
    call = module._compiled_call_impl
    if not isinstance(call, CodeCall):
        yield []
        return
    with call.noted() as noted:
        yield noted


@contextmanager
def without_compiled_code(network: nn.Module) -> Iterator[None]:
    """Run `network` without its compiled code inside, and without any new code."""
    calls = ((module, module._compiled_call_impl) for module in modules_of(network))
    compiled = {module: call for module, call in calls if call is not None}
    _ASIDE[network] = _ASIDE.get(network, 0) + 1
    try:
        for module in compiled:
            module._compiled_call_impl = None
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call
        _ASIDE[network] -= 1
        if not _ASIDE[network]:
            del _ASIDE[network]


def undo(network: nn.Module) -> None:
    """Run `network` without compiled code again."""
    for module in modules_of(network):
        module._compiled_call_impl = None
