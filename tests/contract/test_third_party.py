"""Google's protos are Google's: of their content nothing is changed but the C# namespace."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from tests.contract.protos import THIRD_PARTY, parse


@pytest.mark.parametrize(
    "installed", [error_details_pb2, status_pb2], ids=["details", "status"]
)
def test_a_vendored_proto_says_what_the_installed_one_says(installed: ModuleType) -> None:
    """Python takes the installed package, C# what is vendored: both read the same bytes."""
    name = installed.DESCRIPTOR.name
    (ours,) = [file for file in parse(THIRD_PARTY).file if file.name == name]

    assert ours.options.csharp_namespace == "DeviceOperations.Rpc"
    ours.options.ClearField("csharp_namespace")
    ours.ClearField("source_code_info")
    unnamed(ours.message_type)
    assert ours == FileDescriptorProto.FromString(installed.DESCRIPTOR.serialized_pb)


def unnamed(messages: Iterable[DescriptorProto]) -> None:
    """Take away what the compiler writes down and the installed code leaves out."""
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        unnamed(message.nested_type)
