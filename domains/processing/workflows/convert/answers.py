"""What is wrong with a workflow, and what it needs, as answers."""

from __future__ import annotations

from google.rpc import error_details_pb2

from deviceops.v1 import workflow_pb2
from domains.conversions import byte_figure, duration
from domains.errors import MAX_VIOLATIONS, FeatureNotBuilt
from domains.processing.workflows.core.needs import Needs, needs_of
from domains.processing.workflows.types import Judgement
from domains.session.convert import violation_to_proto


def judgement_to_proto(found: Judgement) -> workflow_pb2.ValidateWorkflowResponse:
    """What running a workflow would come to: what is not built, and a model or another thing
    that there is not, are told as violations as well."""
    violations = [*map(violation_to_proto, found.violations)]
    violations += [
        _violation(field, FeatureNotBuilt.reason, "This version does not do it yet.")
        for field in found.unbuilt
    ]
    if found.error is not None:
        at = found.error.metadata.get("step", "")
        violations.append(_violation(at, found.error.reason, found.error.message))
    if violations:
        return workflow_pb2.ValidateWorkflowResponse(
            violations=violations[:MAX_VIOLATIONS],
            violations_omitted=max(len(violations) - MAX_VIOLATIONS, 0),
        )
    needs = needs_to_proto(needs_of(found.forecasts))
    return workflow_pb2.ValidateWorkflowResponse(
        valid=True, step_order=found.order, needs=needs
    )


def needs_to_proto(needs: Needs) -> workflow_pb2.WorkflowNeeds:
    """What a run needs."""
    return workflow_pb2.WorkflowNeeds(
        model_ids=needs.model_ids,
        peak_memory=None if needs.peak is None else byte_figure(needs.peak),
        estimated_duration=duration(needs.seconds),
        image_count=needs.image_count,
    )


def _violation(
    field: str, reason: str, description: str
) -> error_details_pb2.BadRequest.FieldViolation:
    return error_details_pb2.BadRequest.FieldViolation(
        field=field, reason=reason, description=description
    )
