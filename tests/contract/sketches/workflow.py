"""Draw four pictures, then enlarge each of them at the same time."""

from __future__ import annotations

from collections import defaultdict

import grpc.aio

from deviceops.v1.finishing_pb2 import PostprocessingStep, UpscaleStep
from deviceops.v1.generation_pb2 import GenerationSettings
from deviceops.v1.processing_pb2_grpc import ProcessingServiceStub
from deviceops.v1.session_pb2 import DeliveryOptions, ImageResult, RetrySettings
from deviceops.v1.workflow_pb2 import (
    FAILURE_POLICY_CONTINUE,
    VALUE_KIND_TEXT,
    GenerateWork,
    PostprocessWork,
    RunWorkflowRequest,
    StepOutput,
    Workflow,
    WorkflowBinding,
    WorkflowParameter,
    WorkflowStep,
    WorkflowValue,
)


def draw_then_enlarge(steps: int) -> Workflow:
    """The graph; each picture is drawn in so many steps."""
    return Workflow(
        workflow_id="draw-then-enlarge",
        parameters=[WorkflowParameter(name="subject", kind=VALUE_KIND_TEXT)],
        steps=[
            WorkflowStep(
                step_id="draw",
                generate=GenerateWork(settings=GenerationSettings(image_count=4, steps=steps)),
                bindings=[WorkflowBinding(input="settings.prompt", parameter="subject")],
            ),
            WorkflowStep(
                step_id="enlarge",
                postprocess=PostprocessWork(
                    steps=[PostprocessingStep(upscale=UpscaleStep(factor=2))]
                ),
                bindings=[WorkflowBinding(input="images", output=StepOutput(step_id="draw"))],
                for_each_input="images",
                retry=RetrySettings(max_attempts=2),
                on_failure=FAILURE_POLICY_CONTINUE,
            ),
        ],
        result_step_ids=["enlarge"],
    )


async def run(
    channel: grpc.aio.Channel, subject: str, steps: int = 25
) -> tuple[dict[str, set[int]], list[ImageResult]]:
    """Run it; return which runs of each step were seen, and the pictures of the last step."""
    request = RunWorkflowRequest(
        workflow=draw_then_enlarge(steps),
        arguments={"subject": WorkflowValue(text=subject)},
        delivery=DeliveryOptions(omit_image_data=True),
    )
    runs: dict[str, set[int]] = defaultdict(set)
    results: list[ImageResult] = []
    async for response in ProcessingServiceStub(channel).RunWorkflow(request):
        event = response.event
        if event.WhichOneof("event") == "item_finished":
            runs[event.item_id].add(event.run_index)
            if event.item_id == "enlarge":
                results.extend(event.item_finished.images)
    return dict(runs), results
