"""Second passes between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import generation_pb2, sampling_pb2
from domains.conversions import EnumMap, scalars_from, scalars_of
from domains.inference import types

UPSCALES = EnumMap(
    types.SecondPassUpscale, generation_pb2.SecondPassUpscale, "SECOND_PASS_UPSCALE_"
)


def second_pass_from_proto(message: generation_pb2.SecondPass) -> types.SecondPass:
    """As a client asks for it; absent fields are left to their defaults."""
    return types.SecondPass(
        **scalars_from(message, types.SecondPass),
        upscale=UPSCALES.from_proto(message.upscale, types.SecondPassUpscale.LATENT),
        guidance=types.GuidanceSettings(
            **scalars_from(message.guidance, types.GuidanceSettings)
        )
        if message.HasField("guidance")
        else None,
    )


def second_pass_to_proto(again: types.SecondPass) -> generation_pb2.SecondPass:
    """As a client would send it; None becomes absent."""
    result = generation_pb2.SecondPass(
        **scalars_of(again, generation_pb2.SecondPass), upscale=UPSCALES.to_proto(again.upscale)
    )
    if again.guidance is not None:
        guidance = scalars_of(again.guidance, sampling_pb2.GuidanceSettings)
        result.guidance.CopyFrom(sampling_pb2.GuidanceSettings(**guidance))
    return result
