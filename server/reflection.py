"""Server reflection, v1 and v1alpha: what grpcurl needs to call without .proto files.

grpcio-reflection has v1alpha only. v1 is the same protocol, byte for byte, under another
package name, so one servicer answers both.
"""

from __future__ import annotations

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection,
    reflection_pb2,
    reflection_pb2_grpc,
)

from server.app import SERVICE_NAMES
from server.health import SERVICE_NAME as HEALTH_NAME

V1ALPHA_NAME: str = reflection.SERVICE_NAME
V1_NAME = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: grpc.aio.Server) -> None:
    """Register both versions."""
    pool = descriptor_pool.Default()
    _describe_v1(pool)
    names = (*SERVICE_NAMES, HEALTH_NAME, V1_NAME, V1ALPHA_NAME)
    servicer = reflection.aio.ReflectionServicer(names, pool=pool)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler(V1_NAME, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handlers,))


def _describe_v1(pool: descriptor_pool.DescriptorPool) -> None:
    """Put v1's descriptor beside v1alpha's, so that reflection can describe itself."""
    try:
        pool.FindFileContainingSymbol(V1_NAME)
        return
    except KeyError:
        pass
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    file.ClearField("options")
    for message in file.message_type:
        for field in filter(lambda field: field.type_name, message.field):
            field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
        method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    pool.Add(file)
