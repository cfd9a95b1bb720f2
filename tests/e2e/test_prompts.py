"""Prompts with weights, and the words of embeddings, through the public contract."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deviceops.v1 import common_pb2, generation_pb2, inference_pb2, model_info_pb2
from tests.domains.model.disk import DEMO
from tests.e2e.errors import refusal_of
from tests.running import Client, small_request

WEIGHTED = generation_pb2.PROMPT_SYNTAX_WEIGHTED


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    shutil.copy(DEMO.parent / "emoji-embedding.safetensors", models / "twin.safetensors")
    save_file({"emb_params": torch.zeros(2, 768)}, models / "older.safetensors")
    return models


async def test_weights_work_and_leave_nothing_behind(client: Client) -> None:
    prompt = "a (red:1.5) apple BREAK on a [blue] background " + "cat " * 80
    _, plain = await client.draw(small_request())
    events, weighted = await client.draw(small_request(prompt=prompt, prompt_syntax=WEIGHTED))
    _, same = await client.draw(
        small_request(prompt=f"({small_request().settings.prompt}:1)", prompt_syntax=WEIGHTED)
    )
    _, again = await client.draw(small_request())

    completed = events[-1].completed
    assert completed.generation.effective_settings.prompt_syntax == WEIGHTED
    assert not completed.degradations
    assert plain == again
    # The files hold their settings: the same pixels are other bytes.
    assert plain != weighted != same != plain


async def test_a_verdict_tells_of_weights_and_lengths(client: Client) -> None:
    async def verdict(
        prompt: str, syntax: int = WEIGHTED
    ) -> inference_pb2.ValidateGenerationResponse:
        wanted = small_request(prompt=prompt, prompt_syntax=syntax)
        return await client.inference.ValidateGeneration(
            inference_pb2.ValidateGenerationRequest(request=wanted), metadata=client.metadata
        )

    heavy = await verdict("a (cat:50)")
    assert [(v.field, v.reason) for v in heavy.violations] == [
        ("settings.prompt", "PROMPT_SYNTAX")
    ]
    long = await verdict("cat " * 200, generation_pb2.PROMPT_SYNTAX_PLAIN)
    assert long.valid
    assert [told.kind for told in long.degradations] == [
        common_pb2.DEGRADATION_KIND_PROMPT_TRUNCATED
    ]
    assert not (await verdict("cat " * 200)).degradations


async def test_too_great_a_weight_is_refused_before_anything_runs(client: Client) -> None:
    wanted = small_request(prompt="a (cat:50)", prompt_syntax=WEIGHTED)
    refusal = await refusal_of(client.draw(wanted))
    assert (refusal.reason, refusal.fields) == ("PROMPT_SYNTAX", ["settings.prompt"])


async def test_a_result_tells_its_embeddings_and_leaves_none_behind(client: Client) -> None:
    prompt = "a red apple on a blue background <far>"
    _, plain = await client.draw(small_request(prompt=prompt))
    events, small = await client.draw(
        small_request(prompt=prompt, embedding_model_ids=["emoji-embedding"])
    )
    _, again = await client.draw(small_request(prompt=prompt))

    facts = events[-1].completed.generation
    assert list(facts.effective_settings.embedding_model_ids) == ["emoji-embedding"]
    (used,) = facts.models[1:]
    assert (used.model_id, used.type) == (
        "emoji-embedding",
        model_info_pb2.MODEL_TYPE_EMBEDDING,
    )
    assert plain != small
    assert plain == again


@pytest.mark.parametrize(
    ("ids", "reason", "fields"),
    [
        (["older"], "FIELDS_CONFLICT", ["settings.embedding_model_ids[0]"]),
        (["emoji-embedding", "twin"], "FIELDS_CONFLICT", ["settings.embedding_model_ids[1]"]),
        (["twin", "twin"], "FIELDS_CONFLICT", ["settings.embedding_model_ids[1]"]),
        (["nobody"], "MODEL_NOT_FOUND", []),
        (["emoji-xl"], "MODEL_NOT_FOUND", []),
        ([""], "REQUIRED_FIELD_MISSING", ["settings.embedding_model_ids[0]"]),
        (["a"] * 65, "TOO_MANY_ELEMENTS", ["settings.embedding_model_ids"]),
    ],
)
async def test_embeddings_that_cannot_be_used_are_refused(
    client: Client, ids: list[str], reason: str, fields: list[str]
) -> None:
    refusal = await refusal_of(client.draw(small_request(embedding_model_ids=ids)))
    assert (refusal.reason, refusal.fields) == (reason, fields)
