"""Errors of models."""

from __future__ import annotations

from domains.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Reason,
    ResourceExhausted,
    Unimplemented,
)
from domains.model.types import Model, ModelType, Problem


class ModelNotFound(NotFound):
    """The catalogue has no such model, or it is of another type than is needed."""

    def __init__(self, model_id: str, why: str) -> None:
        super().__init__(
            f"There is no model {model_id!r}: {why}" if model_id else why,
            reason=Reason.MODEL_NOT_FOUND,
            metadata={"model_id": model_id},
        )

    @classmethod
    def of_type(cls, model: Model, wanted: ModelType) -> ModelNotFound:
        """The model is there and is something else."""
        found = model.type.value if model.type else "model of unknown type"
        return cls(model.model_id, f"it is a {found}, and a {wanted.value} is needed here.")


class ModelNameInvalid(InvalidArgument):
    """No model can have a name of this form."""

    def __init__(self, violation: FieldViolation) -> None:
        super().__init__(
            "This is not a model id; ListModels lists the ids.",
            reason=violation.reason,
            violations=[violation],
        )


class RemoteSourceForbidden(PermissionDenied):
    """A URL or the name of a repository elsewhere stands where a model id belongs."""

    def __init__(self) -> None:
        super().__init__(
            "Only models in this server's own folders are used, never one from the "
            "network; ListModels lists their ids.",
            reason=Reason.REMOTE_SOURCE_FORBIDDEN,
        )


class PathOutsideRoot(PermissionDenied):
    """A part of a model is a link that leads outside the model's root."""

    def __init__(self) -> None:
        super().__init__(
            "A part of the model is a link that leads outside its model folder; put the "
            "file itself in the link's place.",
            reason=Reason.PATH_OUTSIDE_ROOT,
        )


class ReadOnlyModel(PermissionDenied):
    """The model's place may not be changed: by the settings, by the system, or because it is a
    model root itself."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Model {name!r} lies where this server may change nothing: its model folder is "
            "read-only, or is the model itself. Change it there, or ask the server's operator.",
            reason=Reason.PATH_OUTSIDE_ROOT,
            metadata={"model_id": name},
        )


class ModelChanged(FailedPrecondition):
    """The model is not the one that the caller saw."""

    def __init__(self, model_id: str, sha256: str) -> None:
        why = (
            "has another hash"
            if sha256
            else "has no hash yet; it is computed in the background"
        )
        super().__init__(
            f"Model {model_id!r} {why}. Look at it again with GetModel.",
            metadata={"model_id": model_id, "sha256": sha256},
        )


class InvalidUpdate(InvalidArgument):
    """A model cannot be described that way."""


class ModelUnusable(FailedPrecondition):
    """The model is in the catalogue with a problem."""

    def __init__(self, model_id: str, problem: Problem) -> None:
        super().__init__(
            problem.message,
            reason=problem.reason,
            metadata={**problem.metadata, "model_id": model_id},
        )


class NotLoadedAlone(FailedPrecondition):
    """The model is nothing that lies on a device by itself."""

    def __init__(self, model: Model) -> None:
        kind = model.type.value if model.type else "model of unknown type"
        what_to_do = (
            "the generation that names it puts it into its checkpoint, so load that"
            if model.type in (ModelType.LORA, ModelType.EMBEDDING)
            else "this version has nothing that would run it"
        )
        super().__init__(
            f"The model is a {kind}, which is not loaded by itself: {what_to_do}.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"model_id": model.model_id, "type": kind},
        )


class ModelInUse(FailedPrecondition):
    """Work uses the model, which therefore cannot be taken away."""

    def __init__(self, model_id: str, session_ids: tuple[str, ...]) -> None:
        super().__init__(
            f"Model {model_id!r} is still in use by {len(session_ids)} session(s); wait for"
            " them or cancel them, or allow more time.",
            reason=Reason.MODEL_IN_USE,
            metadata={"model_id": model_id, "session_ids": ",".join(session_ids[:8])},
            retry_after=5.0,
        )


class InvalidLoad(InvalidArgument):
    """Loading, unloading or measuring was asked for in a way that breaks a rule."""


class InvalidTask(InvalidArgument):
    """A task about models was asked for in a way that breaks a rule."""


class SearchInvalid(InvalidArgument):
    """A list or search was asked for in a way that breaks a rule."""


class PicklesNotConverted(FailedPrecondition):
    """The operator does not want pickles to be looked into."""

    def __init__(self) -> None:
        super().__init__(
            "Pickles are not converted on this server (convert_pickles); convert it elsewhere.",
            reason=Reason.MODEL_UNSAFE_PICKLE,
        )


class PartsBorrowed(FailedPrecondition):
    """The refiner takes networks of a checkpoint, which loading it alone does not give it."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"Refiner {model_id!r} has no text encoder or VAE of its own: it takes those of "
            "the checkpoint whose pictures it refines. Name it as the refiner of a generation; "
            "it is not loaded alone.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"model_id": model_id},
        )


class MaskNeeded(Unimplemented):
    """The model fills in masked parts of pictures, and this task has none."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"Model {model_id!r} fills in a masked part of a picture, and this task has no "
            "mask yet; choose a model that draws from text.",
            metadata={"model_id": model_id, "fields": "inpainting"},
        )


class VaeNeeded(FailedPrecondition):
    """The model has no VAE, and this task does not name one."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"Model {model_id!r} has no VAE, and this task uses none but a model's own; choose "
            "a whole model, or its version with a VAE baked in.",
            reason=Reason.MODEL_INCOMPLETE,
            metadata={"model_id": model_id, "component": "vae"},
        )


class LayoutFixed(FailedPrecondition):
    """The model cannot be written in the other layout."""

    def __init__(self, model_id: str, why: str) -> None:
        super().__init__(
            f"Model {model_id!r} {why}.",
            reason=Reason.MODEL_FORMAT_UNSUPPORTED,
            metadata={"model_id": model_id},
        )


class InvalidCacheRequest(InvalidArgument):
    """Something was asked of the cache in a way that breaks a rule."""


class CacheFull(ResourceExhausted):
    """A model has no room in main memory, even without all that may be evicted."""

    def __init__(
        self, model_id: str, needed: int, budget: int, limit: int, problem: str = ""
    ) -> None:
        why = problem
        if not problem and needed > budget:
            why = "SetCacheBudget, or the setting model_cache_bytes, allows more."
        elif not problem:
            why = "Evict what is pinned, wait for work that uses other models, or free memory."
        super().__init__(
            f"The model takes {needed} bytes. All cached models together may take {limit} now,"
            f" within a budget of {budget}. {why}",
            reason=Reason.HOST_OUT_OF_MEMORY,
            metadata={
                "model_id": model_id,
                "needed_bytes": str(needed),
                "free_bytes": str(limit),
                "budget_bytes": str(budget),
            },
        )


class CachedModelInUse(FailedPrecondition):
    """Work reads the model out of main memory, or it is being read into it."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"Model {model_id!r} cannot leave main memory while work uses it; wait for the"
            " work's end or cancel it.",
            reason=Reason.MODEL_IN_USE,
            metadata={"model_id": model_id},
            retry_after=5.0,
        )


class BudgetTooSmall(FailedPrecondition):
    """What is pinned or in use does not fit into the budget."""

    def __init__(self, wanted: int, kept: int) -> None:
        super().__init__(
            f"Cached models that are pinned or in use take {kept} bytes, more than {wanted};"
            " evict them first, or wait for the work that uses them.",
            reason=Reason.STATE_CONFLICT,
            metadata={"kept_bytes": str(kept), "budget_bytes": str(wanted)},
        )


class NameTaken(AlreadyExists):
    """A model of that id is there already."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"There is a model or a file {model_id!r} already; choose another id.",
            reason=Reason.NAME_TAKEN,
            metadata={"model_id": model_id},
        )


class NoWritableRoot(PermissionDenied):
    """No model folder can take another model."""

    def __init__(self) -> None:
        super().__init__(
            "None of the server's model folders can be written and is no model itself; give "
            "the server one (model_roots).",
            reason=Reason.PATH_OUTSIDE_ROOT,
        )


class PicklesNotTaken(FailedPrecondition):
    """The operator does not want pickles to be brought in."""

    def __init__(self) -> None:
        super().__init__(
            "Pickles are not taken by this server (convert_pickles); bring a safetensors file.",
            reason=Reason.MODEL_UNSAFE_PICKLE,
        )


class NoModelInFiles(FailedPrecondition):
    """Files that were to become a model are none, or are several."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The files are not a model of the format that was named. {why}".rstrip(),
            reason=Reason.MODEL_FORMAT_UNSUPPORTED,
        )


class ImportTooLarge(ResourceExhausted):
    """There is less room on the disk than a model needs."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"The model needs {needed_bytes} bytes on the disk of the model folders, and "
            f"{free_bytes} are free; free some space there.",
            reason=Reason.DISK_FULL,
            metadata={"needed_bytes": str(needed_bytes), "free_bytes": str(free_bytes)},
        )


class ModelReplaced(DataLoss):
    """A model has other content than when the work that uses it was accepted."""

    def __init__(self, model_id: str, accepted_sha256: str, sha256: str) -> None:
        super().__init__(
            f"The files of model {model_id!r} were replaced after this was accepted. Send it "
            "again to have it done with what is there now.",
            reason=Reason.MODEL_CHECKSUM_MISMATCH,
            metadata={
                "model_id": model_id,
                "accepted_sha256": accepted_sha256,
                "sha256": sha256,
            },
        )


class ChecksumMismatch(DataLoss):
    """A model's files have other bytes than when they were hashed, unseen by size and time."""

    def __init__(self) -> None:
        super().__init__(
            "The files have other bytes than when they were hashed, with the same size and "
            "time: the disk or a copy damaged them. Get the model again.",
            reason=Reason.MODEL_CHECKSUM_MISMATCH,
        )
