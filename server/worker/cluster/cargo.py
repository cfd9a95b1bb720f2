"""The files that go with a job: which they are, and the job as another machine reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Union

import msgspec
from msgspec import structs

from domains.chain.jobs import ChainJob
from domains.chain.types import Table
from domains.errors import FailedPrecondition, Reason
from domains.inference.jobs import GenerationJob
from domains.picture.types import PreparedPicture
from domains.session.jobs import Job
from domains.values import ModelPlace
from server.worker.cluster.contents import State, state_of
from server.worker.link import frames
from server.worker.link.jobs import JOBS

_ANY_JOB: Any = Union[JOBS]  # noqa: UP007 - it is a tuple
_PAUSING = (GenerationJob, ChainJob)


class ModelElsewhere(FailedPrecondition):
    """The other machine does not have the model where this one has it; `how` completes "A file
    of the model ..."."""

    def __init__(self, node: str, path: str, how: str) -> None:
        super().__init__(
            f"A file of the model {how}: on node {node} the model folders must be at the same"
            f" path as on the server, with the same content ({Path(path).name}).",
            reason=Reason.MODEL_INCOMPLETE,
            metadata={"node": node, "file": Path(path).name},
        )


def job_of(order: frames.RunOrder) -> Job[Any]:
    """The job that was ordered.

    Raises:
        ProtocolError: It is none.
    """
    job: Job[Any] = frames.decoded(_ANY_JOB, bytes(order.job))
    return job


def model_files(job: Job[Any]) -> dict[str, State]:
    """Every file of every model that the job uses, by its path, as they are here."""
    found: dict[str, State] = {}
    for place in dict.fromkeys(_every(job, ModelPlace)):
        path = place.path
        for each in sorted(path.rglob("*")) if path.is_dir() else (path,):
            state = state_of(str(each)) if each.is_file() else None
            if state is not None:
                found[str(each)] = state
    return found


def pictures(job: Job[Any]) -> dict[str, Path]:
    """The pictures and tables of colours that the job reads, by the names they get there."""
    kept = (*_every(job, PreparedPicture), *_every(job, Table))
    return {_name_of(each): each.path for each in kept}


def paused_files(job: Job[Any]) -> dict[str, Path]:
    """Where the job keeps unfinished pictures when it pauses, by name."""
    kept = (each.paused_file for each in _every(job, _PAUSING))
    return {path.name: path for path in kept if path is not None}


def kept_files(job: Job[Any]) -> dict[str, Path]:
    """Those of `paused_files` that it goes on from."""
    going_on = (each for each in _every(job, _PAUSING) if each.goes_on)
    return {each.paused_file.name: each.paused_file for each in going_on if each.paused_file}


def moved(job: Job[Any], path_of: Callable[[str], Path]) -> Job[Any]:
    """The job with every such file where `path_of` says, given its name."""
    return _changed(job, partial(_move, path_of))  # type: ignore[no-any-return]


def _move(path_of: Callable[[str], Path], value: msgspec.Struct) -> msgspec.Struct:
    if isinstance(value, PreparedPicture | Table):
        return structs.replace(value, path=path_of(_name_of(value)))
    if isinstance(value, _PAUSING) and value.paused_file is not None:
        return structs.replace(value, paused_file=path_of(value.paused_file.name))
    return value


def _name_of(file: PreparedPicture | Table) -> str:
    """What no other content is called: a table's file is made anew for each work."""
    return file.sha256 if isinstance(file, PreparedPicture) else file.path.name


def _every(value: Any, kind: type | tuple[type, ...]) -> Iterator[Any]:
    """Every value of that kind in another one."""
    if isinstance(value, kind):
        yield value
    if isinstance(value, tuple):
        for each in value:
            yield from _every(each, kind)
    elif isinstance(value, msgspec.Struct):
        for each in structs.astuple(value):
            yield from _every(each, kind)


def _changed(value: Any, change: Callable[[msgspec.Struct], msgspec.Struct]) -> Any:
    """The value with every value in it changed, the inner ones first."""
    if isinstance(value, tuple):
        return tuple(_changed(each, change) for each in value)
    if not isinstance(value, msgspec.Struct):
        return value
    fields = {
        field: after
        for field in value.__struct_fields__
        if (after := _changed(before := getattr(value, field), change)) is not before
    }
    return change(structs.replace(value, **fields))
