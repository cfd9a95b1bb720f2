"""Every RPC of the public contract, by its descriptor."""

from __future__ import annotations

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default

from server.app import SERVICE_NAMES

METHODS: list[MethodDescriptor] = [
    method for name in SERVICE_NAMES for method in Default().FindServiceByName(name).methods
]
