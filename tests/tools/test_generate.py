"""The generator: what it makes, what it calls stale, and how it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.generate import GenerationFailed, generate_python, replace_stale, stale_files

HELLO = """syntax = "proto3";
package hello.v1;
message Greeting { string text = 1; }
"""
SERVICE = """syntax = "proto3";
package hello.v1;
import "hello/v1/hello.proto";
service HelloService {
  rpc Greet(Greeting) returns (Greeting);
}
"""


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    """Two protos, one of them with a service."""
    folder = tmp_path / "protos" / "hello" / "v1"
    folder.mkdir(parents=True)
    (folder / "hello.proto").write_text(HELLO, "utf-8")
    (folder / "service.proto").write_text(SERVICE, "utf-8")
    return tmp_path / "protos"


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """An empty folder to generate into."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    return folder


def test_every_proto_gets_messages_and_only_services_get_grpc_code(
    protos: Path, fresh: Path
) -> None:
    """Four files for a service, two for a proto without one."""
    generate_python(protos, fresh)

    made = {path.name for path in (fresh / "hello" / "v1").iterdir()}
    assert made == {
        "hello_pb2.py",
        "hello_pb2.pyi",
        "service_pb2.py",
        "service_pb2.pyi",
        "service_pb2_grpc.py",
        "service_pb2_grpc.pyi",
    }


def test_the_same_protos_give_the_same_bytes(protos: Path, tmp_path: Path) -> None:
    """Otherwise the check would fail at random."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        generate_python(protos, folder)

    assert stale_files(first, second) == []


def test_a_broken_proto_is_told_with_its_line(protos: Path, fresh: Path) -> None:
    """protoc's own words reach the developer."""
    (protos / "hello" / "v1" / "hello.proto").write_text(HELLO + "message {", "utf-8")

    with pytest.raises(GenerationFailed, match=r"hello/v1/hello\.proto:4:"):
        generate_python(protos, fresh)


def test_changed_missing_and_left_over_files_are_stale_and_replaced(
    protos: Path, fresh: Path, tmp_path: Path
) -> None:
    """All three kinds are named, and replacing them leaves none."""
    committed = tmp_path / "committed"
    (committed / "hello" / "v1").mkdir(parents=True)
    generate_python(protos, fresh)
    generate_python(protos, committed)
    (committed / "hello" / "v1" / "hello_pb2.py").write_text("edited by hand", "utf-8")
    (committed / "hello" / "v1" / "hello_pb2.pyi").unlink()
    (committed / "hello" / "v1" / "farewell_pb2.py").write_text("of yesterday", "utf-8")

    stale = stale_files(fresh, committed)

    assert [path.as_posix() for path in stale] == [
        "hello/v1/farewell_pb2.py",
        "hello/v1/hello_pb2.py",
        "hello/v1/hello_pb2.pyi",
    ]
    replace_stale(fresh, committed, stale)
    assert stale_files(fresh, committed) == []
