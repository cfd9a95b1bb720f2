"""From the options of `generate` to the contract's request for a batch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from deviceops.v1 import generation_pb2, inference_pb2
from server.cli.batch_items import read_items
from server.cli.choices import UnusableOptions
from server.cli.field_values import Picture
from server.cli.overlays import overlay

_Value = tuple[tuple[str, str], ...]  # paths of fields, and what each gets


@dataclass(frozen=True)
class BatchOptions:
    """What a person asked for, of many pictures in one go.

    Args:
        each: Axes as `FIELD=VALUE,VALUE`; every combination is drawn.
        runs: How often; None means that they said nothing about it.
        items: A file with items instead.
        share: Whether they may share passes.
    """

    each: tuple[str, ...] = ()
    runs: int | None = None
    items: Path | None = None
    share: bool = False

    def asked(self) -> bool:
        """Whether it is a batch at all.

        Raises:
            UnusableOptions: The options contradict each other.
        """
        matrix = bool(self.each) or self.runs is not None
        if matrix and self.items is not None:
            raise UnusableOptions("--items names every item: leave --each and --runs out")
        if self.share and not matrix and self.items is None:
            raise UnusableOptions("--share is for batches: --each, --runs or --items")
        return matrix or self.items is not None


@dataclass(frozen=True)
class BatchRequest:
    """A request for a batch, and what a person wrote of which its parts were made.

    Args:
        message: The request.
        origins: By the beginning of a field's path in it: `items[2]` is "line 4 of items.csv".
        axes: What the values of each axis say: `guidance.scale=5`.
    """

    message: inference_pb2.GenerateBatchRequest
    origins: Mapping[str, str] = field(default_factory=dict)
    axes: Sequence[Sequence[str]] = ()

    def said_of(self, item_id: str) -> str:
        """What is different with this item, as far as its name tells: `steps=20, seed=3`."""
        places = [int(place) for place in item_id.split("-") if place.isdecimal()]
        if len(places) < len(self.axes):
            return ""
        said = zip(self.axes, places, strict=False)
        return ", ".join(axis[place] for axis, place in said if place < len(axis))


def batch_request(
    template: inference_pb2.GenerateRequest, options: BatchOptions, picture: Picture
) -> BatchRequest:
    """The request for a batch of which every item is `template`, but for what is said of it.

    Raises:
        UnusableOptions: A field is unknown or cannot hold its value, or the file of items
            is no such file.
    """
    message = inference_pb2.GenerateBatchRequest(
        template=template.settings, postprocessing=template.postprocessing
    )
    message.options.CopyFrom(template.options)
    if template.HasField("delivery"):
        message.delivery.CopyFrom(template.delivery)
    if template.HasField("placement"):
        message.placement.CopyFrom(template.placement)
    if options.share:
        message.computation = generation_pb2.BATCH_COMPUTATION_THROUGHPUT
    if options.items is not None:
        origins = {}
        read = read_items(options.items, template.settings, picture)
        for number, (line, item) in enumerate(read):
            message.items.append(item)
            origins[f"items[{number}]"] = f"line {line} of {options.items}"
        return BatchRequest(message, origins)
    return _matrix(message, options, picture)


def _matrix(
    message: inference_pb2.GenerateBatchRequest, options: BatchOptions, picture: Picture
) -> BatchRequest:
    message.matrix.SetInParent()
    if options.runs is not None:
        if not -(2**31) <= options.runs < 2**31:
            raise UnusableOptions(f"--runs: {options.runs} does not fit into 32 bits")
        message.matrix.runs = options.runs
    origins, axes = {}, []
    for number, axis in enumerate(_axes(options.each)):
        made, said = message.matrix.axes.add(), []
        for at, value in enumerate(axis):
            made.values.append(overlay(message.template, value, picture, "--each "))
            said.append(", ".join(f"{path}={text}" for path, text in value))
            origins[f"matrix.axes[{number}].values[{at}]"] = f"--each {said[-1]}"
        axes.append(said)
    return BatchRequest(message, origins, axes)


def _axes(each: Sequence[str]) -> Iterator[Sequence[_Value]]:
    """One axis for each top-level field: values of `guidance.scale` and of `guidance.rescale`
    would replace each other on axes of their own, so every combination of them is a value."""
    by_field: dict[str, list[list[tuple[str, str]]]] = {}
    for axis in each:
        path, texts = _parse(axis)
        values = [(path, text) for text in texts]
        by_field.setdefault(path.partition(".")[0], []).append(values)
    for alternatives in by_field.values():
        yield list(product(*alternatives))


def _parse(axis: str) -> tuple[str, list[str]]:
    """The field of an axis and its values, which are separated as in a line of CSV."""
    path, _, text = axis.partition("=")
    try:
        lines = list(csv.reader(io.StringIO(text), strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise UnusableOptions(f"--each {path}: {error}") from error
    if not path.strip() or len(lines) != 1:
        raise UnusableOptions(f"--each: {axis!r} is not FIELD=VALUE,VALUE,...")
    return path.strip(), lines[0]
