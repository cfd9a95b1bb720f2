"""Reads the program that a pickle is, and does none of what it says but put values together.

A pickle is a list of instructions for a stack machine (Python's pickletools describes them).
Python's own machine imports and calls what a pickle names. This one knows the names in
`pickled` and gives a value of ours for each; every instruction costs a bounded amount of time
and memory, and their number is bounded.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from domains.model.backends.inspector import pickled
from domains.model.backends.inspector.pickled import Holder, Opaque, PickledTensor
from domains.model.backends.inspector.refusals import (
    bad_header,
    bad_structure,
    too_large,
    unsafe,
)

MAX_PROGRAM_BYTES = 16 << 20
MAX_INSTRUCTIONS = 2_000_000
_MARK = object()


class _Program:
    """A file of which no more is read than a program may have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MAX_PROGRAM_BYTES

    def read(self, count: int) -> bytes:
        return self._taken(self._file.read(min(count, self._left + 1)))

    def readline(self) -> bytes:
        return self._taken(self._file.readline(self._left + 1))

    def tell(self) -> int:
        return self._file.tell()

    def _taken(self, data: bytes) -> bytes:
        if len(data) > self._left:
            raise too_large("has a description of more than 16 MiB")
        self._left -= len(data)
        return data


def read_program(file: BinaryIO) -> Any:
    """The value that the pickle at the file's position describes; it is behind it then.

    Plain values are as they are; of the rest see `pickled`.

    Raises:
        FailedPrecondition: MODEL_UNSAFE_PICKLE, MODEL_HEADER_INVALID, MODEL_HEADER_TOO_LARGE,
            MODEL_STRUCTURE_INVALID.
    """
    machine = _Machine()
    count = 0
    try:
        for instruction, argument, _ in pickletools.genops(_Program(file)):  # type: ignore[arg-type]
            count += 1
            if count > MAX_INSTRUCTIONS:
                raise too_large("has a description of millions of instructions")
            machine.do(instruction.name, argument)
    except (ValueError, IndexError, KeyError, OverflowError, struct.error) as error:
        raise bad_header("has a description that cannot be read") from error
    return machine.result()


class _Machine:
    """Stack and memo of one program."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        """One instruction."""
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        else:
            step = _STEPS.get(name)
            if step is None:
                raise unsafe(f"instruction {name}")
            step(self, argument)

    def result(self) -> Any:
        """What is left in the end."""
        if len(self._stack) != 1 or self._stack[0] is _MARK:
            raise bad_header("has a description that comes to nothing")
        return self._stack[0]

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise bad_header("has a description that cannot be read")
        return value

    def _since_mark(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("no mark")
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def _top(self, kind: type) -> Any:
        value = self._stack[-1]
        if not isinstance(value, kind):
            raise bad_structure(f"puts entries into what is no {kind.__name__}")
        return value

    # Instructions, by the names that pickletools has for them.

    def mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def nothing(self, _: Any) -> None:
        """Protocol, frame, end."""

    def pop(self, _: Any) -> None:
        self._stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._since_mark()

    def dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def append(self, _: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def appends(self, _: Any) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    def make_list(self, _: Any) -> None:
        self._stack.append(self._since_mark())

    def make_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def tuple_of(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def make_dict(self, _: Any) -> None:
        values = self._since_mark()
        self._stack.append({})
        self._set(values)

    def set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def set_items(self, _: Any) -> None:
        self._set(self._since_mark())

    def add_items(self, _: Any) -> None:
        self._since_mark()
        self._top(Opaque)

    def frozen_set(self, _: Any) -> None:
        self._since_mark()
        self._stack.append(Opaque("a set"))

    def _set(self, values: list[Any]) -> None:
        table = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            pickled.put(table, key, value)

    def get(self, place: Any) -> None:
        self._stack.append(self._memo[place])

    def put(self, place: Any) -> None:
        self._memo[place] = self._stack[-1]

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def name(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(pickled.named(module, name))

    def stack_name(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._stack.append(pickled.named(module, name))

    def old_instance(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        raise unsafe(f"{module}.{name}")

    def reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        self._stack.append(pickled.call(function, arguments))

    def reduce_with_names(self, _: Any) -> None:
        self._pop()
        self.reduce(None)

    def build(self, _: Any) -> None:
        state, made = self._pop(), self._stack[-1]
        if isinstance(made, Holder):
            # A module's state is its attributes, or a pair of which they are the first.
            state = state[0] if isinstance(state, tuple) and state else state
            inner = state.get("_parameters") if isinstance(state, dict) else None
            made.parameters = inner if isinstance(inner, dict) else {}
        elif not isinstance(made, dict | Opaque | PickledTensor):
            raise unsafe(f"the state of {type(made).__name__}")

    def persistent(self, _: Any) -> None:
        self._stack.append(pickled.storage(self._pop()))


_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
    }
)
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Opaque("a set"),
}
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.nothing,
    "FRAME": _Machine.nothing,
    "STOP": _Machine.nothing,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.dup,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "LIST": _Machine.make_list,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "DICT": _Machine.make_dict,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "ADDITEMS": _Machine.add_items,
    "FROZENSET": _Machine.frozen_set,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "INST": _Machine.old_instance,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.reduce_with_names,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
