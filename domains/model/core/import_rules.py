"""What may be imported: rules that need no disk."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.file_names import unfit
from domains.limits import LIMITS
from domains.model.errors import InvalidTask, PicklesNotTaken
from domains.model.types import ImportedFile, ImportRequest, ModelFormat
from domains.session.core.options import check_options

_INDEX_FILE = "model_index.json"
_ENDINGS = {
    ModelFormat.SAFETENSORS: frozenset({".safetensors"}),
    ModelFormat.PICKLE: frozenset({".ckpt", ".pt", ".pth", ".bin"}),
}
# Names of weight files that say nothing: the folder names the model.
_NAMED_BY_FOLDER = frozenset({"diffusion_pytorch_model", "model", "pytorch_model"})
_MOST_FOLDERS = 6
_LONGEST_NAME = 255


def check_import(request: ImportRequest, *, pickles: bool) -> None:
    """Refuse what cannot become a model, whatever its files hold.

    Args:
        request: What to import.
        pickles: Whether the operator allows pickles.

    Raises:
        InvalidTask: It breaks rules.
        PicklesNotTaken: It is a pickle, and none are taken.
    """
    files = request.files
    InvalidTask.check(
        checks.required("model_id", request.model_id)
        or checks.name("model_id", request.model_id),
        checks.required("format", request.format) or _format_violation(request.format),
        checks.required("files", files),
        checks.elements("files", len(files), LIMITS["ImportModelRequest.files"]),
        *check_options(request.options, "options"),
    )
    InvalidTask.check(*_file_violations(files))
    InvalidTask.check(*_double_violations(files), _shape_violation(request))
    if request.format is ModelFormat.PICKLE and not pickles:
        raise PicklesNotTaken


def published_name(request: ImportRequest) -> str:
    """What the model is called in its root: a file's name, or a folder's."""
    if is_folder(request):
        return request.model_id
    return request.model_id + _ending(request.files[0].relative_path)


def is_folder(request: ImportRequest) -> bool:
    """Whether the model lies in a folder of its own."""
    return request.format is ModelFormat.DIFFUSERS_FOLDER or len(request.files) > 1


def _file_violations(files: Sequence[ImportedFile]) -> Iterator[FieldViolation | None]:
    limit = LIMITS["ModelFile.relative_path"]
    for number, file in enumerate(files):
        path = f"files[{number}].relative_path"
        yield (
            checks.required(path, file.relative_path)
            or checks.line(path, file.relative_path, limit)
            or _path_violation(path, file.relative_path)
        )
        path = f"files[{number}].artifact_id"
        yield checks.required(path, file.artifact_id) or checks.sha256(path, file.artifact_id)


def _path_violation(path: str, value: str) -> FieldViolation | None:
    names = value.split("/")
    if len(names) > _MOST_FOLDERS + 1:
        return _invalid(path, f"Must lie in at most {_MOST_FOLDERS} folders.")
    for name in names:
        if not name or name.startswith("."):
            rule = "Must be names between slashes, none of which is empty or begins with a dot."
            return _invalid(path, rule)
        if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
            return _invalid(path, f"Each name must have at most {_LONGEST_NAME} bytes.")
        if why := unfit(name):
            return _invalid(path, f"{name!r} {why}.")
    return None


def _double_violations(files: Sequence[ImportedFile]) -> Iterator[FieldViolation]:
    """Names that are one on some system, and files that other files would have to lie in."""
    places = [_comparable(file.relative_path) for file in files]
    seen: set[str] = set()
    folders = {str(parent) for place in places for parent in PurePosixPath(place).parents}
    for number, place in enumerate(places):
        path = f"files[{number}].relative_path"
        if place in seen:
            yield _invalid(path, "Must differ from the others, in more than upper case.")
        elif place in folders:
            yield _invalid(path, "Must not be a folder of another file.")
        seen.add(place)


def _format_violation(format: ModelFormat | None) -> FieldViolation | None:
    if format is ModelFormat.DIFFUSERS_FOLDER or format in _ENDINGS:
        return None
    rule = "Must be DIFFUSERS_FOLDER, SAFETENSORS or PICKLE: others are no models here."
    return FieldViolation("format", Reason.ENUM_VALUE_UNKNOWN, rule)


def _shape_violation(request: ImportRequest) -> FieldViolation | None:
    """What the format asks of the files as a whole."""
    paths = [file.relative_path for file in request.files]
    if request.format is ModelFormat.DIFFUSERS_FOLDER:
        if _INDEX_FILE in paths:
            return None
        return _conflict(f"A diffusers folder has a {_INDEX_FILE}; none of the files is it.")
    assert request.format is not None
    endings = _ENDINGS[request.format]
    weights = [path for path in paths if _ending(path) in endings]
    words = ", ".join(sorted(endings))
    if len(weights) != 1:
        return _conflict(f"A model of this format has one file that ends in {words}.")
    stem = PurePosixPath(weights[0]).name.partition(".")[0]
    if len(paths) > 1 and ("/" in weights[0] or stem not in _NAMED_BY_FOLDER):
        return _conflict(
            "With other files beside it the weights are called diffusion_pytorch_model or "
            "model, and lie in no folder of their own; or import them alone."
        )
    return None


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _comparable(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _invalid(path: str, rule: str) -> FieldViolation:
    return FieldViolation(path, Reason.NAME_INVALID, rule)


def _conflict(rule: str) -> FieldViolation:
    return FieldViolation("files", Reason.FIELDS_CONFLICT, rule)
