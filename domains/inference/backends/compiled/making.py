"""`python -m domains.inference.backends.compiled.making`: makes the code of one order.

It reads the order and where the code goes as a line of JSON from standard input, and ends when
that is closed: whoever asked is gone then.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from domains.codec import Value, decode_json, encode_json
from domains.inference.backends.compiled.attention import has_wide_products, use_products
from domains.inference.backends.compiled.hoisting import halved
from domains.inference.backends.compiled.joining import join_products
from domains.inference.backends.compiled.layouts import lay_channels_last
from domains.inference.backends.compiled.norms import has_kernels, use_kernels
from domains.inference.backends.compiled.order import CodeOrder, Leaf, TensorForm
from domains.inference.backends.compiled.passing import is_passing
from domains.inference.backends.compiled.reductions import rows_at_once
from domains.inference.backends.compiled.rewriting import rewrite

_NICENESS = 10


class Ended(IntEnum):
    """What its exit status tells. 1 is Python's own, where something cannot be imported."""

    MADE = 0
    NOT_NOW = 3
    CANNOT = 4


class Task(Value, frozen=True):
    """What is to be made, and the folder that is to have it."""

    order: CodeOrder
    folder: Path


class CodeFacts(Value, frozen=True):
    """What belongs to code: `names` of the weights that are among its arguments, in their
    order, None for each input; `result` is the form of what it gives.

    `before` and `step` are the places of the arguments that the code run before the first step
    takes, if there is any, and the code of each step, which takes what the other gives as well.
    `steady` tells for each input whether the former may depend on it.
    """

    names: tuple[str | None, ...]
    steady: tuple[bool, ...]
    before: tuple[int, ...]
    step: tuple[int, ...]
    result: str


CODE, BEFORE, FACTS = "code", "before", "facts.json"
"""Names of the files in the folder."""


class _Flat(nn.Module):
    """A module whose arguments are its tensors alone."""

    def __init__(self, module: nn.Module, leaves: tuple[Leaf, ...], form: str) -> None:
        super().__init__()
        self.module = module
        self._leaves, self._form = leaves, pytree.treespec_loads(form)
        self.result = ""

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Its outputs, without their form."""
        given = iter(tensors)
        leaves = [
            next(given) if isinstance(leaf, TensorForm) else leaf for leaf in self._leaves
        ]
        arguments, named = pytree.tree_unflatten(leaves, self._form)
        outputs, form = pytree.tree_flatten(self.module(*arguments, **named))
        self.result = pytree.treespec_dumps(form)
        return tuple(outputs)


def make(task: Task) -> None:
    """Compile, and leave the code in the folder.

    Raises:
        Exception: As torch raises it.
    """
    from torch._inductor.utils import fresh_inductor_cache

    order = task.order
    flat = _Flat(_module(order), order.leaves, order.form)
    inputs = tuple(
        _tensor(leaf, order.device) for leaf in order.leaves if isinstance(leaf, TensorForm)
    )
    flat(*inputs)  # while it is exported nothing can be noted
    form = flat.result
    program = torch.export.export(flat, inputs, strict=False)
    own: dict[str, Any] = {**dict(flat.named_parameters()), **dict(flat.named_buffers())}
    names = [spec.target for spec in program.graph_signature.input_specs]
    given = zip(inputs, order.steady, strict=True)
    arguments, steady = [], []
    for name in names:
        tensor, same = next(given) if name is None else (own[name].detach(), True)
        arguments.append(tensor)
        steady.append(same)
    improve(program.graph_module, order)
    halves = halved(program.graph_module, steady)
    kept: list[torch.Tensor] = []
    # Nothing of it stays elsewhere: the code is all that is needed again.
    with fresh_inductor_cache(), rows_at_once():
        if halves.before is not None:
            early = [arguments[place] for place in halves.before_places]
            before = compiled(halves.before, early)
            before.save(path=str(task.folder / BEFORE), format="binary")
            kept = list(before(*early))
        late = [arguments[place] for place in halves.step_places]
        step = compiled(halves.step, [*late, *kept])
        step.save(path=str(task.folder / CODE), format="binary")
    facts = CodeFacts(
        names=tuple(None if name is None else name.removeprefix("module.") for name in names),
        steady=order.steady,
        before=halves.before_places,
        step=halves.step_places,
        result=form,
    )
    (task.folder / FACTS).write_bytes(encode_json(facts))


@contextmanager
def temporaries_in(folder: Path) -> Iterator[None]:
    """Have temporary files of this process lie in a folder inside; nothing of them stays.

    For before the compiler is imported: it keeps some things, which it runs, below the folder
    for temporary files by names that everybody knows, whatever is said of its caches.
    """
    usual = tempfile.tempdir
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        tempfile.tempdir = own
        try:
            yield
        finally:
            tempfile.tempdir = usual


def improve(graph: torch.fx.GraphModule, order: CodeOrder) -> None:
    """Have a graph be what compilers make fast code of."""
    device = torch.device(order.device)
    if order.channels_last:
        lay_channels_last(graph)
        if has_kernels(device):
            use_kernels(graph)
    join_products(graph)
    if has_wide_products(device):
        use_products(graph)


def compiled(graph: torch.fx.GraphModule, arguments: list[Any]) -> Any:
    """A graph's code, for tensors of the forms of `arguments`.

    Raises:
        Exception: As torch raises it.
    """
    from torch._inductor import standalone_compile

    return standalone_compile(
        graph,
        arguments,
        dynamic_shapes="from_example_inputs",
        # The network keeps its layout: plain code runs with the same weights.
        options={"config_patches": {"layout_optimization": False}},
    )


def _module(order: CodeOrder) -> nn.Module:
    import diffusers

    config = json.loads(order.config)
    with torch.device(order.device):
        root: Any = getattr(diffusers, order.network).from_config(config)
    root = root.eval().requires_grad_(False).to(getattr(torch, order.data_type))
    layout = torch.channels_last if order.channels_last else torch.contiguous_format
    root = root.to(memory_format=layout)
    if order.channels_last:
        rewrite(root)
    module: nn.Module = root.get_submodule(order.part)
    return module


def _tensor(form: TensorForm, device: str) -> torch.Tensor:
    data_type = getattr(torch, form.data_type)
    made = torch.empty_strided(form.shape, form.strides, dtype=data_type, device=device)
    return made.zero_()


def _end_with(asker: int) -> None:
    """End when nobody waits for it any more; what is open is read until then."""
    while os.read(asker, 1):
        pass
    os._exit(Ended.NOT_NOW)


def ended_with(error: Exception) -> Ended:
    """What is told of an exception of `make`."""
    return Ended.NOT_NOW if is_passing(error) else Ended.CANNOT


def main() -> int:
    """Do what standard input asks for."""
    task = decode_json(Task, sys.stdin.buffer.readline())
    # Not by the buffered file: a thread that waits in it hinders the end of the process.
    threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    if hasattr(os, "nice"):
        with suppress(OSError):
            os.nice(_NICENESS)
    try:
        with torch.no_grad(), temporaries_in(task.folder):
            make(task)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return ended_with(error)
    return Ended.MADE


if __name__ == "__main__":
    sys.exit(main())
