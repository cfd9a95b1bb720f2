"""Error reasons: one list in Python and in the protos, and comments that speak of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import grpc

from deviceops.v1 import errors_pb2
from domains.errors import Reason
from domains.session.errors import cancellation
from domains.session.types import Cancelled
from tests.contract import protos
from tests.contract.raised import ROOT, Code, Use
from tests.contract.unbuilt_reasons import UNBUILT_REASONS

PREFIX = "ERROR_REASON_"
CODES = frozenset(code.name for code in grpc.StatusCode)
# "NOT_FOUND (MODEL_NOT_FOUND, DEVICE_NOT_FOUND: why)", a status with its reasons.
_CLAUSE = re.compile(r"\b(?P<code>[A-Z_]{4,}) \((?P<reasons>[^)]*)\)")
_REASON = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
_AS = re.compile(r"(?:as|those of) (?:(?P<service>\w+Service)\.)?(?P<method>[A-Z]\w+)")
# Answers that belong to a reason of their own name.
_BARE_CODES = frozenset({"CANCELLED"})


@cache
def code_of_reason() -> dict[str, str]:
    """The status code that each reason's comment begins with."""
    (enum,) = (e for e in protos.enums(protos.public()) if e.proto.name == "ErrorReason")
    return {
        name.removeprefix(PREFIX): comment.partition(".")[0]
        for name, comment in enum.comments.items()
        if not name.endswith("_UNSPECIFIED")
    }


def errors_of(comment: str) -> str:
    """The "Errors:" part of an RPC's comment; empty when there is none."""
    return comment.partition("Errors:")[2].strip()


def inconsistencies(errors: str) -> list[str]:
    """What an "Errors:" sentence says that the reasons' own comments do not."""
    wrong = []
    for clause in _CLAUSE.finditer(errors):
        code = clause["code"]
        if code not in CODES:
            wrong.append(f"{code} is no status code")
        for part in clause["reasons"].split(","):
            named = part.partition(":")[0].strip()
            # "any MODEL_ reason", "any content reason", "any content or IMAGE_ reason".
            if named.startswith("any "):
                if code not in ("INVALID_ARGUMENT", "FAILED_PRECONDITION"):
                    wrong.append(f"{named} is not {code}")
                if "MODEL_" in named and code != "FAILED_PRECONDITION":
                    wrong.append(f"{named} is FAILED_PRECONDITION, not {code}")
                continue
            if named not in code_of_reason():
                wrong.append(f"{named or part} is no reason")
            elif code_of_reason()[named] != code:
                wrong.append(f"{named} is {code_of_reason()[named]}, not {code}")
    return wrong


CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def misraised(uses: Iterable[Use]) -> list[str]:
    """Reasons that are raised with a code other than the one their comment states."""
    wrong = []
    for use in uses:
        code = use.code
        if use.cancels:
            code = cancellation("session", Cancelled(Reason(use.reason), None, ())).code
        name = CODE_NAMES[code] if code else "unknown"
        if name != code_of_reason()[use.reason]:
            wrong.append(
                f"{use.where}: {use.reason} is {code_of_reason()[use.reason]}, not {name}"
            )
    return wrong


def test_code_raises_every_reason_with_the_code_it_states() -> None:
    uses = Code.of_the_product().uses
    assert len({use.reason for use in uses}) > 60
    assert misraised(uses) == []


def test_no_error_is_raised_with_a_reason_that_only_fits_its_base() -> None:
    assert list(Code.of_the_product().unreasoned()) == []


def test_what_nothing_gives_is_listed_as_unbuilt() -> None:
    given = {use.reason for use in Code.of_the_product().uses}
    assert set(code_of_reason()) - given == set(UNBUILT_REASONS)


def test_every_reason_that_is_given_is_provoked_by_a_test() -> None:
    given = {use.reason for use in Code.of_the_product().uses}
    assert given - set(provoked(ROOT / "tests")) == set()


def provoked(folder: Path) -> Iterator[str]:
    """Reasons that tests name, as the code's, the contract's or a text; this folder, which
    only reads, left out."""
    for path in folder.rglob("test_*.py"):
        if path.parent == Path(__file__).parent:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Attribute(attr=str(name)) | ast.Name(id=str(name)):
                    yield name.removeprefix(PREFIX)
                case ast.Constant(value=str(text)):
                    yield text


def test_a_reason_that_no_test_names_is_missed(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("assert told is Reason.DISK_FULL or 'QUEUE_FULL'\n")
    found = set(provoked(tmp_path))
    assert {"DISK_FULL", "QUEUE_FULL"} <= found
    assert "MODEL_IN_USE" not in found


SAMPLE = """
from domains import errors
from domains.errors import FieldViolation, InvalidArgument, NotFound, Reason, Unavailable

class Gone(Unavailable):
    def __init__(self, lost: bool) -> None:
        super().__init__("x", reason=Reason.DEVICE_LOST if lost else Reason.MODEL_NOT_FOUND)

class Bad(InvalidArgument):
    reason = Reason.QUEUE_FULL

def refuse(why: str, reason: Reason = Reason.SEED_INVALID) -> None:
    raise errors.NotFound(why, reason=reason)

def unpacked(gone: bool) -> NotFound:
    why, reason = ("x", Reason.BATCH_NOT_FOUND) if gone else ("y", Reason.ROLE_REQUIRED)
    return NotFound(why, reason=reason)

TABLE = {"a": Reason.TOKEN_MISSING}

def looked_up(key: str) -> NotFound:
    return NotFound("x", reason=TABLE.get(key, Reason.SLOW_READER))

def calls(session):
    refuse("x", Reason.DEVICE_NOT_FOUND)
    refuse("x", reason=Reason.DISK_FULL)
    InvalidArgument.of(FieldViolation("f", Reason.NAME_TAKEN, "No."))
    session.request_cancel(Reason.SHUTTING_DOWN)
    session.request_cancel(Reason.DISK_FULL)
    print(Reason.INTERNAL)
    if session.reason is Reason.INTERNAL:
        raise NotFound("x")
"""


def test_code_that_raises_a_reason_with_another_code_is_found() -> None:
    sources = {
        "sample": SAMPLE,
        "domains.errors": (ROOT / "domains" / "errors.py").read_text("utf-8"),
    }
    code = Code(sources)
    found = {
        line.partition(": ")[2] for line in misraised(code.uses) if line.startswith("sample")
    }
    assert found == {
        "MODEL_NOT_FOUND is NOT_FOUND, not UNAVAILABLE",
        "QUEUE_FULL is RESOURCE_EXHAUSTED, not INVALID_ARGUMENT",
        "SEED_INVALID is INVALID_ARGUMENT, not NOT_FOUND",
        "DISK_FULL is RESOURCE_EXHAUSTED, not NOT_FOUND",
        "NAME_TAKEN is ALREADY_EXISTS, not INVALID_ARGUMENT",
        "DISK_FULL is RESOURCE_EXHAUSTED, not CANCELLED",
        "ROLE_REQUIRED is PERMISSION_DENIED, not NOT_FOUND",
        "TOKEN_MISSING is UNAUTHENTICATED, not NOT_FOUND",
        "SLOW_READER is RESOURCE_EXHAUSTED, not NOT_FOUND",
        "INTERNAL is INTERNAL, not unknown",
    }
    assert len(list(code.unreasoned())) == 1


def test_the_page_about_trouble_states_the_codes_of_the_contract() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \|", page, re.MULTILINE)
    assert len(rows) > 10
    assert [row for row in rows if code_of_reason()[row[0]] != row[1]] == []


def test_python_and_proto_have_the_same_reasons() -> None:
    in_protos = [name.removeprefix(PREFIX) for name in errors_pb2.ErrorReason.keys()[1:]]
    assert [reason.value for reason in Reason] == in_protos


def test_reasons_are_fit_for_error_info() -> None:
    """google.rpc.ErrorInfo: at most 63 characters of UPPER_SNAKE_CASE."""
    form = re.compile(r"[A-Z][A-Z0-9_]+[A-Z0-9]")
    assert all(form.fullmatch(reason) and len(reason) <= 63 for reason in Reason)


def test_every_reason_states_its_code() -> None:
    assert set(code_of_reason().values()) <= CODES
    assert code_of_reason()["MODEL_NOT_FOUND"] == "NOT_FOUND"


def test_every_rpc_states_its_errors() -> None:
    silent = [m.name for m in protos.methods(protos.public()) if not errors_of(m.comment)]
    assert silent == []


def test_rpcs_name_reasons_that_exist_under_the_code_they_have() -> None:
    wrong = {
        f"{method.service}.{method.name}": found
        for method in protos.methods(protos.public())
        if (found := inconsistencies(errors_of(method.comment)))
    }
    assert wrong == {}


def test_nothing_in_capitals_is_neither_a_reason_nor_a_code() -> None:
    """Outside of parentheses too, so that no spelling slips past the clauses."""
    known = set(code_of_reason()) | CODES | _BARE_CODES
    wrong = {
        f"{method.service}.{method.name}": found
        for method in protos.methods(protos.public())
        if (found := set(_REASON.findall(errors_of(method.comment))) - known)
    }
    assert wrong == {}


def test_rpcs_that_fail_as_others_name_others_that_exist() -> None:
    names = {(m.service, m.name) for m in protos.methods(protos.public())}
    wrong = [
        f"{method.service}.{method.name}: as {reference[0]}"
        for method in protos.methods(protos.public())
        for reference in _AS.finditer(errors_of(method.comment))
        if (reference["service"] or method.service, reference["method"]) not in names
    ]
    assert wrong == []


def test_wrong_sentences_are_found() -> None:
    assert inconsistencies("NOT_FOUND (MODEL_NOT_FOUND).") == []
    assert inconsistencies("NOT_FOUND (MODEL_LOST).") == ["MODEL_LOST is no reason"]
    assert inconsistencies("UNAVAILABLE (MODEL_NOT_FOUND: gone).") == [
        "MODEL_NOT_FOUND is NOT_FOUND, not UNAVAILABLE"
    ]
    assert inconsistencies("INVALID_ARGUMENT (any MODEL_ reason).") == [
        "any MODEL_ reason is FAILED_PRECONDITION, not INVALID_ARGUMENT"
    ]
    assert inconsistencies("MISSING (MODEL_NOT_FOUND).")[0] == "MISSING is no status code"


def test_every_reason_is_named_where_it_can_happen() -> None:
    """By an RPC, by the rules for all RPCs, by "any MODEL_ reason" and the like, or by a
    message of the session's log."""
    spoken = " ".join(
        [errors_of(method.comment) for method in protos.methods(protos.public())]
        + [field.comment for field in protos.fields(protos.public())]
        + [(protos.ROOT / protos.PUBLIC / "common.proto").read_text().partition("syntax")[0]]
    )
    # "any content reason" and "any IMAGE_ reason" stand for the reasons about requests.
    content = {name for name, code in code_of_reason().items() if code == "INVALID_ARGUMENT"}
    models = {name for name in code_of_reason() if name.startswith("MODEL_")}
    named = set(_REASON.findall(spoken)) | content | models
    assert set(code_of_reason()) - named - {"INTERNAL"} == set()
