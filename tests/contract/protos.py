"""The public protos as descriptors with their comments, for tests that read them."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc_tools  # type: ignore[import-untyped]
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

ROOT = Path(__file__).parents[2] / "protos"
THIRD_PARTY = ROOT.parent / "third_party"
PUBLIC = "deviceops/v1"

# Numbers of the lists in descriptor.proto that a source location's path is made of.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _METHODS, _ENUM_VALUES = 2, 2, 2


@dataclass(frozen=True)
class Field:
    """A field with its comment on one line."""

    message: str
    proto: FieldDescriptorProto
    comment: str

    @property
    def name(self) -> str:
        """Message and field, as limits name it."""
        return f"{self.message}.{self.proto.name}"


@dataclass(frozen=True)
class Method:
    """An RPC with its comment on one line; types without their package."""

    service: str
    name: str
    comment: str
    request: str
    response: str


@dataclass(frozen=True)
class Enum:
    """An enum with the comments of its values by their name."""

    proto: EnumDescriptorProto
    comments: Mapping[str, str]


def parse(root: Path = ROOT) -> FileDescriptorSet:
    """Compile every proto under `root`, comments included."""
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.proto"))
    well_known = importlib.resources.files(grpc_tools) / "_proto"
    with TemporaryDirectory() as folder:
        target = Path(folder) / "set.bin"
        arguments = [
            "protoc",
            f"-I{root}",
            f"-I{THIRD_PARTY}",
            f"-I{well_known}",
            "--include_source_info",
            f"--descriptor_set_out={target}",
            *files,
        ]
        if protoc.main(arguments) != 0:
            raise ValueError("the protos do not compile")
        return FileDescriptorSet.FromString(target.read_bytes())


@cache
def public() -> tuple[FileDescriptorProto, ...]:
    """The files of the public contract."""
    return tuple(file for file in parse().file if file.name.startswith(PUBLIC))


def fields(files: tuple[FileDescriptorProto, ...]) -> Iterator[Field]:
    """Every field of every message; map entries, which have no comments, left out."""
    for file in files:
        comments = _comments(file)
        for number, message in enumerate(file.message_type):
            for position, field in enumerate(message.field):
                comment = comments.get((_MESSAGES, number, _FIELDS, position), "")
                yield Field(message.name, field, comment)


def messages(files: tuple[FileDescriptorProto, ...]) -> dict[str, DescriptorProto]:
    """Every message by its name."""
    return {message.name: message for file in files for message in file.message_type}


def methods(files: tuple[FileDescriptorProto, ...]) -> Iterator[Method]:
    """Every RPC of every service."""
    for file in files:
        comments = _comments(file)
        for number, service in enumerate(file.service):
            for position, method in enumerate(service.method):
                yield Method(
                    service.name,
                    method.name,
                    comments.get((_SERVICES, number, _METHODS, position), ""),
                    method.input_type.rpartition(".")[2],
                    method.output_type.rpartition(".")[2],
                )


def enums(files: tuple[FileDescriptorProto, ...]) -> Iterator[Enum]:
    """Every enum."""
    for file in files:
        comments = _comments(file)
        for number, enum in enumerate(file.enum_type):
            yield Enum(
                enum,
                {
                    value.name: comments.get((_ENUMS, number, _ENUM_VALUES, position), "")
                    for position, value in enumerate(enum.value)
                },
            )


def _comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {
        tuple(location.path): " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
    }
