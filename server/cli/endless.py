"""Watches that only a person ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from server.cli.client import Client
from server.cli.failures import CallFailed


@contextmanager
def until_interrupt(client: Client, call: Any) -> Iterator[None]:
    """Read `call` inside: Ctrl-C ends the block well, and the call ends with the block.

    Raises:
        CallFailed: The call was refused, the connection was lost, or the server ends.
    """
    try:
        yield
    except KeyboardInterrupt:
        pass
    except grpc.RpcError as error:
        raise CallFailed(client.explain(error)) from error
    finally:
        call.cancel()


def draws() -> bool:
    """Whether standard output is a terminal, where a watch is drawn in place."""
    return sys.stdout.isatty()
