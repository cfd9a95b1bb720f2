"""Chains on pictures that come with a request, as sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from domains import checks
from domains.chain.core.preparing import ChainPreparer, PreparedChain
from domains.chain.core.rules import check_chain
from domains.chain.errors import InvalidChain
from domains.chain.jobs import ChainJob, judged_by
from domains.chain.types import AskedChain
from domains.device.core.placement import check_placement
from domains.device.ports import Place
from domains.device.types import Placement
from domains.errors import DomainError, Failure, FeatureNotBuilt, FieldViolation, Reason
from domains.limits import LIMITS
from domains.picture.core import KeptPicture, Pictures, check_image
from domains.picture.jobs import MetadataWish
from domains.picture.types import OWN_SIZE, InputImage, ResizeFit
from domains.postprocessing.core.many import ManyRun, Means
from domains.postprocessing.core.room import Room
from domains.postprocessing.core.run import ChainRun, Piece
from domains.postprocessing.core.turns import Turns
from domains.provenance.core import Provenance
from domains.safety import SafetyPolicy
from domains.session.core.about import Parent
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.core.speeds import Effort
from domains.session.ports import PausedFiles
from domains.session.types import (
    OnDisconnect,
    Outcome,
    Phase,
    PreviewSettings,
    Priority,
    SessionKind,
    WorkOptions,
)
from domains.values import OutputSettings, SourceMetadata

_STEPS = LIMITS["ProcessImageRequest.steps"]
_ITEMS = LIMITS["ProcessImagesRequest.items"]
_RETENTION = LIMITS["OutputSettings.retention"]
_ITEM_ID = LIMITS["ProcessingItem.item_id"]


@dataclass(frozen=True)
class AskedPicture:
    """One picture; `item_id` is empty where it is the only one."""

    image: InputImage
    item_id: str = ""


@dataclass(frozen=True)
class ProcessingRequest:
    """One call of ProcessImage or, with `batch`, ProcessImages. `digest` stands for all of it.

    `unbuilt` names what is set although this version does nothing with it; networks compute in
    float32 with `exact`. `previews` shows pictures while they are worked on.
    """

    pictures: tuple[AskedPicture, ...]
    chain: AskedChain
    output: OutputSettings
    options: WorkOptions
    placement: Placement
    digest: bytes
    batch: bool = False
    exact: bool = False
    unbuilt: tuple[str, ...] = ()
    previews: PreviewSettings = field(default_factory=PreviewSettings)


class Processing:
    """Accepts chains and has them done when their device's turn comes.

    Args:
        pictures: Prepares what they are applied to.
        preparer: Makes chains ready.
        provenance: Decides which marks pictures get.
        place: Chooses the device.
        run: Has them done.
        room: Refuses what needs more memory than there is.
        default: The safety policy that holds for all, with its classifiers installed; None for
            none.
        means: With what many pictures of one request are done.
        paused: Where lies what paused chains go on from.
    """

    def __init__(
        self,
        pictures: Pictures,
        preparer: ChainPreparer,
        provenance: Provenance,
        place: Place,
        run: ChainRun,
        room: Room,
        default: Callable[[], SafetyPolicy | None],
        means: Means,
        paused: PausedFiles,
    ) -> None:
        self._pictures = pictures
        self._preparer = preparer
        self._provenance = provenance
        self._place = place
        self._run = run
        self._room = room
        self._default = default
        self._means = means
        self._paused = paused

    def process(self, request: ProcessingRequest) -> SessionRequest:
        """The chain as a session, with a picture for each that is given.

        Preparing it raises:
            InvalidChain: The content breaks rules.
            InvalidPicture: The only picture cannot be used.
            FeatureNotBuilt: The request uses what this version does not do.
            DomainError: Device, model or picture cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: ProcessingRequest) -> SessionPlan:
        InvalidChain.check(*_check(request))
        if request.unbuilt:
            raise FeatureNotBuilt(request.unbuilt)
        named = await self._preparer.prepare(request.chain, "steps")
        chain = named.under(self._default())
        pieces = [await self._piece(request, chain, at) for at in range(len(request.pictures))]
        if request.batch:
            return await self._together(request, chain, pieces)
        (piece,) = pieces
        return await self._alone(request, chain, piece, request.options.priority)

    async def _alone(
        self, request: ProcessingRequest, chain: PreparedChain, piece: Piece, priority: Priority
    ) -> SessionPlan:
        """One picture, on the device that will be done with it first."""
        turns, total = Turns(self._paused), await self._room.total()
        placed = await self._place(request.placement, _effort(chain, [piece]), priority)
        assert isinstance(piece.job, ChainJob)
        self._room.check(chain, piece.job, placed.decision.device_id, total)
        return SessionPlan(
            kind=SessionKind.POSTPROCESSING,
            device_id=placed.decision.device_id,
            placed=placed,
            model_id=chain.model_id,
            companion_ids=chain.companion_ids,
            policies=chain.policies,
            expected_phases=(Phase.QUEUED, *_phases(chain)),
            work=self._run.single(chain, piece, turns),
            stop=self._run.stop,
            pause=self._run.pause,
            ended=lambda session: turns.end(),
        )

    async def _together(
        self, request: ProcessingRequest, chain: PreparedChain, pieces: list[Piece]
    ) -> SessionPlan:
        """Several: the session is on no device, and begins one for each of them."""
        # Of a device that is not there it is said now.
        await self._place(request.placement, _effort(chain, pieces), request.options.priority)

        def one(piece: Piece, session: Session) -> SessionRequest:
            priority = session.options.priority
            prepare = partial(self._alone, request, chain, piece, priority)
            return SessionRequest(
                WorkOptions(priority=priority, on_disconnect=OnDisconnect.DETACH),
                request.digest,
                prepare,
                session.owner,
                Parent(session.session_id, piece.item_id),
                begun_anew(prepare),
                contents=session.about.contents,
            )

        async def work(session: Session) -> Outcome:
            run = ManyRun(pieces, one, request.placement, session, self._means)
            return await run.work()

        return SessionPlan(
            kind=SessionKind.POSTPROCESSING,
            device_id="",
            model_id=chain.model_id,
            companion_ids=chain.companion_ids,
            policies=chain.policies,
            expected_phases=_phases(chain),
            work=work,
            pause=lambda session: None,  # it sees that its session is to pause
            ended=self._ended,
            resumes_after_images=True,
        )

    def _ended(self, session: Session) -> None:
        """Nothing of it goes on, also where its turn never came again."""
        self._means.children.cancel(session)

    async def _piece(self, request: ProcessingRequest, chain: PreparedChain, at: int) -> Piece:
        """A picture made ready; of several, one that cannot be used fails by itself."""
        asked = request.pictures[at]
        field = f"items[{at}].image" if request.batch else "image"
        try:
            kept = await self._pictures.prepare(
                asked.image,
                field,
                OWN_SIZE,
                ResizeFit.STRETCH,
                keep_alpha=True,
                metadata=_kept_of(request.output),
            )
            return Piece(asked.item_id, await self._job(request, chain, kept), kept)
        except DomainError as error:
            if not request.batch:
                raise
            failure: Failure = self._means.describe(error)
            return Piece(asked.item_id, failure)

    async def _job(
        self, request: ProcessingRequest, chain: PreparedChain, kept: KeptPicture
    ) -> ChainJob:
        prepared, output = kept.prepared, request.output
        size = (prepared.width, prepared.height)
        width, height = chain.result_size(size, "steps", output.format, "output.format")
        marks = await self._provenance.decide(
            output.provenance, (width, height), "output.provenance", chain.demanded
        )
        return ChainJob(
            prepared,
            chain.steps,
            width,
            height,
            replace(output, provenance=marks.wish),
            request.exact,
            await self._provenance.mark_key() if marks.watermark else None,
            kept.report.metadata,
            # What may be withheld is not shown while it forms either.
            previews=PreviewSettings() if judged_by(chain.steps) else request.previews,
        )


def _phases(chain: PreparedChain) -> tuple[Phase, ...]:
    loading = (Phase.LOADING_MODEL,) if chain.models else ()
    return (*loading, Phase.POSTPROCESSING, Phase.ENCODING_IMAGE)


def _kept_of(output: OutputSettings) -> MetadataWish | None:
    """What a result's file has of its source's metadata."""
    if output.source_metadata is SourceMetadata.DISCARD:
        return None
    return MetadataWish(parameters=not output.omit_parameters)


def _effort(chain: PreparedChain, pieces: list[Piece]) -> Effort:
    amounts: Counter[Phase] = Counter()
    for piece in pieces:
        if isinstance(piece.job, ChainJob):
            picture = piece.job.picture
            amounts[Phase.POSTPROCESSING] += chain.pixels((picture.width, picture.height))
            amounts[Phase.ENCODING_IMAGE] += piece.job.width * piece.job.height
    manner = ",".join(step.field for step in chain.steps)
    return Effort(chain.model_id, manner, amounts=dict(amounts))


def _check(request: ProcessingRequest) -> Iterator[FieldViolation]:
    yield from check_options(request.options, "options")
    yield from check_chain(request.chain, "steps", _STEPS)
    quality = checks.number(
        "output.quality", request.output.quality, LIMITS["OutputSettings.quality"]
    )
    yield from () if quality is None else (quality,)
    if request.output.retention is not None:
        kept = checks.number("output.retention", request.output.retention, _RETENTION)
        yield from () if kept is None else (kept,)
    yield from check_placement(request.placement, "placement.")
    if not request.batch:
        yield from check_image(request.pictures[0].image, "image")
        return
    if not request.pictures:
        yield FieldViolation("items", Reason.REQUIRED_FIELD_MISSING, "Must have an element.")
    too_many = checks.elements("items", len(request.pictures), _ITEMS)
    if too_many is not None:
        yield too_many
        return
    first: dict[str, int] = {}
    for at, asked in enumerate(request.pictures):
        for broken in checks.item_id(at, f"items[{at}]", asked.item_id, _ITEM_ID, first):
            yield from () if broken is None else (broken,)
        yield from check_image(asked.image, f"items[{at}].image")
