"""A picture of thirty steps with two LoRAs, a ControlNet and a refiner."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import grpc.aio

from deviceops.v1.common_pb2 import InputImage
from deviceops.v1.conditioning_pb2 import (
    CannyOptions,
    ControlNetGuidance,
    ControlPreprocessor,
    LoraWeight,
)
from deviceops.v1.generation_pb2 import GenerationSettings, Refiner, SdxlSettings
from deviceops.v1.inference_pb2 import GenerateRequest
from deviceops.v1.inference_pb2_grpc import InferenceServiceStub
from deviceops.v1.sampling_pb2 import (
    SCHEDULER_DPM_SOLVER_MULTISTEP,
    SIGMA_SPACING_KARRAS,
    GuidanceSettings,
    SchedulerSettings,
)
from deviceops.v1.session_pb2 import DeliveryOptions, PreviewSettings, WorkOptions
from tests.contract.sketches.pictures import Pictures


def thirty_steps(outline: bytes) -> GenerateRequest:
    """The request."""
    return GenerateRequest(
        settings=GenerationSettings(
            prompt="a robot on a teal background",
            negative_prompt="blurry",
            model_id="sdxl-base",
            sdxl=SdxlSettings(refiner=Refiner(model_id="sdxl-refiner", switch_at=0.8)),
            loras=[
                LoraWeight(model_id="watercolour", weight=0.7),
                LoraWeight(model_id="soft-light", weight=-0.3),
            ],
            control_nets=[
                ControlNetGuidance(
                    model_id="canny-xl",
                    image=InputImage(inline=outline),
                    preprocessor=ControlPreprocessor(canny=CannyOptions()),
                    conditioning_scale=0.6,
                    end=0.5,
                )
            ],
            width=1024,
            height=1024,
            steps=30,
            guidance=GuidanceSettings(scale=7.5),
            seed=42,
            scheduler=SchedulerSettings(
                scheduler=SCHEDULER_DPM_SOLVER_MULTISTEP, spacing=SIGMA_SPACING_KARRAS
            ),
        ),
        options=WorkOptions(request_id=str(uuid4()), tags=["portrait"]),
        delivery=DeliveryOptions(previews=PreviewSettings(every_steps=10)),
    )


async def generate(
    channel: grpc.aio.Channel, request: GenerateRequest, show: Callable[[int, int], None]
) -> Pictures:
    """Draw, tell each step of how many, and return the verified files."""
    pictures = Pictures()
    async for response in InferenceServiceStub(channel).Generate(request):
        pictures.add(response.event)
        if response.event.WhichOneof("event") == "step_finished":
            step = response.event.step_finished
            show(step.step, step.steps)
    return pictures
