"""What chains need from outside their pure core."""

from __future__ import annotations

from typing import Protocol

from domains.model.types import Model, ModelType
from domains.picture.core import KeptFile, KeptPicture
from domains.picture.types import Canvas, InputImage, ResizeFit
from domains.safety import SafetyPolicy


class Models(Protocol):
    """The model catalogue, as chains see it."""

    async def resolve(
        self, model_id: str, *, type: ModelType = ..., field: str = "model_id"
    ) -> Model:
        """The usable model of that id and type; `field` is where the request has the id.

        Raises:
            NotFound: MODEL_NOT_FOUND.
            FailedPrecondition: It cannot be used, by its header.
        """
        ...

    async def of_type(self, type: ModelType) -> tuple[Model, ...]:
        """Every usable model of that type, in no order."""
        ...


class Policies(Protocol):
    """The safety policies, as the steps of chains see them."""

    def named(self, policy_id: str, field: str) -> SafetyPolicy:
        """The policy that a call's client names in `field`; the default one where it names
        none. Its classifiers are installed.

        Raises:
            NotFound: POLICY_NOT_FOUND, or POSTPROCESSOR_NOT_FOUND.
        """
        ...


class Files(Protocol):
    """Files that steps name and that are no pictures."""

    async def read(self, artifact_id: str, field: str, most: int) -> bytes | None:
        """The bytes of an artifact that a call's client names in `field`; None where it has
        more than `most`.

        Raises:
            NotFound: ARTIFACT_NOT_FOUND; the metadata names the field.
            DomainError: It cannot be read now.
        """
        ...

    async def keep(self, data: bytes) -> KeptFile:
        """Those bytes in a file that work may read.

        Raises:
            DomainError: It cannot be written.
        """
        ...


class Marks(Protocol):
    """Prepares the pictures that steps put on."""

    async def prepare(
        self,
        image: InputImage,
        field: str,
        canvas: Canvas,
        fit: ResizeFit,
        *,
        keep_alpha: bool = False,
    ) -> KeptPicture:
        """Decode a picture that a request names in `field`; see `Pictures` for errors."""
        ...
