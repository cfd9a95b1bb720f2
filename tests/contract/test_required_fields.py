"""Required fields are ones that a client can leave out, and the code asks for no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message_factory import GetMessageClass

from domains.required_fields import REQUIRED
from server.interceptors.content import unfit
from tests.contract import protos
from tests.contract.methods import METHODS
from tests.contract.whole import complete

ROOT = Path(__file__).parents[2]
# Parts of an upload's messages: of this oneof one is set, and the header comes first.
OF_STREAMS = {"part", "header"}


def asked_for(source: str) -> Iterator[str]:
    """Names of the fields that code calls missing, where it writes the name there."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        checks = isinstance(node.func, ast.Attribute) and node.func.attr == "required"
        says = any(
            isinstance(each, ast.Attribute) and each.attr == "REQUIRED_FIELD_MISSING"
            for each in node.args
        )
        path = node.args[0]
        if (checks or says) and isinstance(path, ast.Constant):
            yield str(path.value).rpartition(".")[2]


def test_the_code_calls_nothing_missing_that_is_not_required() -> None:
    found = {
        name
        for part in ("domains", "server")
        for path in (ROOT / part).rglob("*.py")
        for name in asked_for(path.read_text(encoding="utf-8"))
    }
    assert {"place", "query", "device_id", "sha256", "filter", "update_fields"} <= found
    assert found <= {name for names in REQUIRED.values() for name in names} | OF_STREAMS


def test_no_required_field_is_one_that_may_be_left_out() -> None:
    """Neither one of a oneof nor one whose absence has a meaning of its own."""
    wrong = [
        field.name
        for field in protos.fields(protos.public())
        if field.proto.name in REQUIRED.get(field.message, ())
        and field.proto.HasField("oneof_index")
    ]
    assert wrong == []


def test_what_a_request_must_have_can_be_given() -> None:
    """The least that is right for each method, built or not."""
    for method in METHODS:
        request = GetMessageClass(method.input_type)()
        complete(request)
        assert [each for each in unfit(request) if each is not None] == [], method.name
