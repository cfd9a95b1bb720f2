"""What the services of steps would say of them, without starting anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator

from deviceops.v1 import errors_pb2, inference_pb2, session_pb2, workflow_pb2
from domains.clients import caller
from domains.conversions import QUALITIES, REASONS, seconds, wished
from domains.errors import (
    DomainError,
    Failure,
    FeatureNotBuilt,
    FieldViolation,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Reason,
)
from domains.memory.core.leases import Leases
from domains.memory.types import AllocationRequest
from domains.processing.workflows.convert.graphs import (
    arguments_from_proto,
    graph_from_proto,
)
from domains.processing.workflows.convert.own_works import asked_for, check_own
from domains.processing.workflows.convert.requests import Inlined
from domains.processing.workflows.convert.works import StepWorks
from domains.processing.workflows.core.values import check_arguments
from domains.processing.workflows.types import Inputs, StepForecast, StepVerdict, Target
from domains.session.convert import Starters
from domains.values import ByteFigure, FigureQuality

Verdict = Callable[
    [inference_pb2.GenerateRequest], Awaitable[inference_pb2.ValidateGenerationResponse]
]
"""What Generate would make of a request."""


class DryRuns:
    """The steps of a workflow; see the port `StepJudge`.

    Args:
        works: The steps.
        path: Where the workflow stands in the request.
        starters: Make sessions of requests.
        verdict: Judges generations.
        inlined: Finds stored workflows, for steps that run one.
        leases: Know where memory can be taken.
    """

    def __init__(
        self,
        works: StepWorks,
        path: str,
        starters: Starters,
        verdict: Verdict,
        inlined: Inlined,
        leases: Leases,
    ) -> None:
        self._works, self._path = works, path
        self._starters, self._verdict, self._inlined = starters, verdict, inlined
        self._leases = leases

    def target(self, place: int, path: str) -> Target | str:
        """What an input takes; see the port."""
        return self._works.target(place, path)

    async def judge(self, place: int, inputs: Inputs, unknown: Collection[str]) -> StepVerdict:
        """What comes of a step; see the port."""
        options, delivery = session_pb2.WorkOptions(), session_pb2.DeliveryOptions()
        try:
            if self._works.is_own(place):
                own = self._works.own(place, inputs)
                broken = tuple(self._known(place, list(check_own(own)), unknown))
                asked = None if broken else asked_for(own)
                if asked is None or asked.place is None:
                    return StepVerdict(broken)
                await self._leases.resolve(asked.place)
                return StepVerdict(forecast=_forecast(asked))
            request = self._works.request(place, inputs, options, delivery)
            if isinstance(request, inference_pb2.GenerateRequest):
                return self._generation(place, unknown, await self._verdict(request))
            if isinstance(request, workflow_pb2.RunWorkflowRequest):
                return self._workflow(place, unknown, request)
            made = self._starters.request_of(request)
            try:
                plan = await made.prepare()
            except InvalidArgument:
                if "images" not in unknown:
                    raise
                return StepVerdict()  # what stands in for the pictures has a size of its own
        except InvalidArgument as error:
            return StepVerdict(tuple(self._known(place, error.violations, unknown)))
        except FeatureNotBuilt as error:
            fields = tuple(self._named(place, field) for field in error.fields)
            return StepVerdict(unbuilt=fields)
        except (NotFound, PermissionDenied) as error:
            return StepVerdict(error=_of_step(error, self._named(place, "")))
        except DomainError:
            return StepVerdict()  # as things stand now; nobody knows of then
        models = tuple(name for name in (plan.model_id, *plan.companion_ids) if name)
        return StepVerdict(forecast=StepForecast(models))

    def _generation(
        self,
        place: int,
        unknown: Collection[str],
        verdict: inference_pb2.ValidateGenerationResponse,
    ) -> StepVerdict:
        if verdict.violations:
            violations = [
                FieldViolation(each.field, Reason(each.reason), each.description)
                for each in verdict.violations
            ]
            return StepVerdict(tuple(self._known(place, violations, unknown)))
        failure = verdict.failure
        if failure.status_code:
            if failure.status_code == FeatureNotBuilt.code:
                fields = failure.metadata["fields"].split(",")
                return StepVerdict(unbuilt=tuple(self._named(place, each) for each in fields))
            return self._missing(place, failure)
        settings = verdict.effective_settings
        models = dict.fromkeys(
            (
                settings.model_id,
                settings.vae_model_id,
                settings.sdxl.refiner.model_id,
                *(each.model_id for each in settings.loras),
                *(each.model_id for each in settings.control_nets),
                *(each.model_id for each in settings.image_prompts),
                *(each.image_encoder_model_id for each in settings.image_prompts),
                *settings.embedding_model_ids,
            )
        )
        duration = verdict.estimated_duration
        memory = verdict.memory
        forecast = StepForecast(
            tuple(name for name in models if name),
            ByteFigure(
                wished(memory, "value_bytes"),
                QUALITIES.from_proto(memory.quality, FigureQuality.UNKNOWN),
                memory.source,
            ),
            seconds(duration) if verdict.HasField("estimated_duration") else None,
            settings.image_count or 1,
        )
        return StepVerdict(forecast=forecast)

    def _missing(self, place: int, failure: errors_pb2.Failure) -> StepVerdict:
        """Of a generation that would fail now: only what is not there tells of then."""
        reason = REASONS.optional_from_proto(failure.reason)
        if failure.status_code != NotFound.code or reason is None:
            return StepVerdict()
        error = Failure(
            failure.status_code, reason, failure.message, dict(failure.metadata)
        ).error()
        return StepVerdict(error=_of_step(error, self._named(place, "")))

    def _workflow(
        self, place: int, unknown: Collection[str], request: workflow_pb2.RunWorkflowRequest
    ) -> StepVerdict:
        """Of a step that runs a workflow: whether there is one, and its arguments."""
        if "workflow_id" in unknown:
            return StepVerdict()
        found = self._inlined(request, caller())
        arguments = arguments_from_proto(request.arguments)
        graph = graph_from_proto(found.workflow)
        violations = check_arguments(graph, arguments, "arguments")
        bound = {f"arguments[{path.partition('.')[2]!r}]" for path in unknown}
        known = [each for each in violations if each.field not in bound]
        return StepVerdict(tuple(self._known(place, known, unknown)))

    def _named(self, place: int, field: str) -> str:
        return f"{self._path}.{self._works.named(place, field)}".rstrip(".")

    def _known(
        self, place: int, violations: Collection[FieldViolation], unknown: Collection[str]
    ) -> Iterator[FieldViolation]:
        """Those that are about what is known, where they stand in the request."""
        for each in violations:
            about_unknown = any(
                each.field == path or each.field.startswith((f"{path}.", f"{path}["))
                for path in unknown
            )
            # A picture that stands in for another one has a size of its own.
            if about_unknown or (unknown and each.reason is _SIZES):
                continue
            yield FieldViolation(self._named(place, each.field), each.reason, each.description)


def _forecast(asked: AllocationRequest) -> StepForecast:
    figure = ByteFigure.measured(asked.size_bytes, "asked for by allocate_memory")
    return StepForecast(memory=figure)


_SIZES = Reason.IMAGE_SIZE_MISMATCH


def _of_step(error: DomainError, path: str) -> DomainError:
    """What is not there, with the step that asks for it."""
    error.metadata["step"] = path
    return error
