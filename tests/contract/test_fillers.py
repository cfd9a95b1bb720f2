"""Everything that does not speak for itself is commented, and no comment repeats a name."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.contract import protos

_EMPTY_WORDS = frozenset({"a", "an", "its", "of", "one", "the", "what", "which"})


def speaks_for_itself(field: protos.Field) -> bool:
    """Whether name and type say it: an id, or a field named as its type begins or ends."""
    if re.search(r"_ids?$", field.proto.name):
        return True
    kind = field.proto.type_name.rpartition(".")[2].lower()
    name = field.proto.name.replace("_", "")
    one = (name.removesuffix("s"), name.removesuffix("es"), name.removesuffix("ies") + "y")
    return bool(kind) and (kind.startswith((name, *one)) or kind.endswith((name, *one)))


def filler(field: protos.Field) -> bool:
    """Whether a comment says nothing that name and type do not say."""
    words = set(re.findall(r"[a-z]+", field.comment.lower())) - _EMPTY_WORDS
    own = set(re.findall(r"[A-Z]?[a-z]+", f"{field.message}_{field.proto.name}"))
    own |= set(re.findall(r"[A-Z]?[a-z]+", field.proto.type_name.rpartition(".")[2]))
    own = {word.lower() for word in own}
    own |= {word.removesuffix("y") + "ies" for word in own} | {f"{word}s" for word in own}
    return bool(field.comment) and speaks_for_itself(field) and words <= own | {"matches"}


def test_everything_that_does_not_speak_for_itself_is_commented() -> None:
    files = protos.public()
    silent = [
        field.name
        for field in protos.fields(files)
        if not field.comment and not speaks_for_itself(field)
    ]
    silent += [f"{m.service}.{m.name}" for m in protos.methods(files) if not m.comment]
    silent += [
        name
        for enum in protos.enums(files)
        for name, comment in enum.comments.items()
        if not comment
    ]
    assert silent == []


def test_no_comment_only_repeats_a_name() -> None:
    assert [field.name for field in protos.fields(protos.public()) if filler(field)] == []


def test_a_comment_that_only_repeats_a_name_is_found() -> None:
    (field,) = (f for f in protos.fields(protos.public()) if f.name == "ModelMatch.model")
    said = replace(field, comment="The model.")
    assert filler(said)
    assert not filler(replace(said, comment="The model that matches best of all."))
    assert speaks_for_itself(said)
    (other,) = (f for f in protos.fields(protos.public()) if f.name == "ModelMatch.score")
    assert not speaks_for_itself(other)
