"""The configurations of a model as texts, by the names that they have in a folder.

Whether it lies in a folder or in one file: what a plan was made from can be written again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from domains.model.backends.bounds import Config
from domains.model.backends.checkpoint_kinds.kind import CheckpointKind
from domains.model.backends.checkpoint_kinds.registry import KINDS
from domains.model.backends.companion import CLIP_TOKENS, clip_files, clip_tokenizer
from domains.model.backends.component_config import ConfigFiles, invalid, read_limited
from domains.model.backends.diffusers_folder import INDEX_FILE, SCHEDULER_FILE
from domains.model.backends.held_files import VOCABULARY
from domains.model.backends.model_plan import ModelPlan, NetworkPlan
from domains.model.backends.tokenizer_files import MAX_BYTES, TokenizerPlan

_WHOLE = "tokenizer.json"
_OPTIONS = "tokenizer_config.json"
_TOKENIZER_FILES = (
    _WHOLE,
    *VOCABULARY,
    _OPTIONS,
    "special_tokens_map.json",
    "added_tokens.json",
)
_NOTHING = [None, None]
# The type that transformers makes of a text encoder's numbers, whatever they are stored as.
_TYPE_KEYS = ("dtype", "torch_dtype")


def kind_of(plan: ModelPlan) -> CheckpointKind:
    """What kind of checkpoint a plan is of; every plan is of one."""
    wanted = (plan.type, plan.architecture)
    return next(kind for kind in KINDS if (kind.type, kind.architecture) == wanted)


def configuration_texts(
    plan: ModelPlan, given: ConfigFiles | None, *, retyped: bool
) -> dict[str, str]:
    """Every configuration of a model, tokenizers included.

    Args:
        plan: The model's.
        given: Where its tokenizers are read from; None or without them where it has CLIP's.
        retyped: Whether its numbers get another type than the configurations name.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID for a file that is no text, and what
            `read_limited` raises.
    """
    texts = {
        INDEX_FILE: _json(_index(plan)),
        SCHEDULER_FILE: _json(plan.scheduler_config),
        **{f"{n.name}/config.json": _json(_config(n, retyped)) for n in plan.networks},
    }
    for tokenizer in plan.tokenizers.values():
        texts |= _tokenizer_texts(plan, tokenizer, given)
    return texts


def held_texts(plan: ModelPlan, given: ConfigFiles, *, retyped: bool) -> dict[str, str]:
    """The same in few bytes, for a header: without what came with the program."""
    texts = configuration_texts(plan, given, retyped=retyped)
    for name, tokenizer in plan.tokenizers.items():
        whole = texts.get(f"{name}/{_WHOLE}")
        if whole is not None:
            texts[f"{name}/{_WHOLE}"] = _few_brackets(whole)
        if whole is not None or _is_clips(tokenizer):
            for file in VOCABULARY:
                texts.pop(f"{name}/{file}", None)
    return texts


def _index(plan: ModelPlan) -> Config:
    """`model_index.json` as the libraries write it."""
    said = {key: value for key, value in plan.index.items() if not isinstance(value, list)}
    parts: Config = dict.fromkeys(kind_of(plan).named_without, _NOTHING)
    parts |= {n.name: [n.network_class.library, n.network_class.name] for n in plan.networks}
    parts |= {name: ["transformers", "CLIPTokenizer"] for name in plan.tokenizers}
    parts["scheduler"] = ["diffusers", plan.scheduler_config["_class_name"]]
    return {**said, **parts}


def _config(network: NetworkPlan, retyped: bool) -> Config:
    """A network's configuration, with what names its class."""
    kind = network.network_class
    named: Config = {"_class_name": kind.name}
    if kind.library != "diffusers":
        named = {"architectures": [kind.name], "model_type": "clip_text_model"}
    left_out = _TYPE_KEYS if retyped else ()
    return named | {key: v for key, v in network.config.items() if key not in left_out}


def _tokenizer_texts(
    plan: ModelPlan, tokenizer: TokenizerPlan, given: ConfigFiles | None
) -> dict[str, str]:
    name = tokenizer.component
    if given is not None and given.has_folder(name):
        return {
            called: _text(given, called)
            for called in (f"{name}/{file}" for file in _TOKENIZER_FILES)
            if given.has_file(called)
        }
    clip = clip_files()
    options = json.loads(_text(clip, _OPTIONS))
    options["pad_token"] = kind_of(plan).tokenizers[name].token
    texts = {f"{name}/{file}": _text(clip, file) for file in VOCABULARY}
    return {**texts, f"{name}/{_OPTIONS}": _json(options)}


def _text(files: ConfigFiles, called: str) -> str:
    try:
        return read_limited(files, called, MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(called, "is not text") from None


def _is_clips(tokenizer: TokenizerPlan) -> bool:
    """Whether it has CLIP's vocabulary, whatever its options are."""
    if len(tokenizer.vocabulary) != CLIP_TOKENS:
        return False
    clip = clip_tokenizer("", "", "")
    return (tokenizer.vocabulary, tokenizer.merges) == (clip.vocabulary, clip.merges)


def _few_brackets(whole: str) -> str:
    """A tokenizer's file with each merge as one text: headers may not have many brackets."""
    value = json.loads(whole)
    merges = value["model"]["merges"]
    value["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
