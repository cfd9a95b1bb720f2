"""C2PA manifests, written and read by the reference library, which never reaches the network.

It is imported when it is needed: it is part of an extra, and large.
"""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, BinaryIO

from domains.provenance.backends.certificates import Credentials
from domains.provenance.errors import LibraryMissing, SignerRefused
from domains.provenance.jobs import Manifest
from domains.provenance.types import Made, SignatureState, Trust
from domains.values import ImageFileFormat

GENERATION = "org.device-operations.generation"
_ACTIONS = "c2pa.actions.v2"
# IPTC's words for what a trained model made, and for what a program improved.
_SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_BY_A_MODEL = _SOURCES + "trainedAlgorithmicMedia"
_CHANGED = _SOURCES + "algorithmicallyEnhanced"
_MOST_SAID = 1024
_STATES = {
    "Trusted": SignatureState.TRUSTED,
    "Valid": SignatureState.UNKNOWN_SIGNER,
    "Invalid": SignatureState.BROKEN,
}
# What is wrong with who signed, and not with what was signed.
_SIGNER = "signingCredential."


def installed() -> bool:
    """Whether manifests can be written and read."""
    return all(map(find_spec, ("c2pa", "cryptography")))


def signed(
    data: bytes,
    format: ImageFileFormat,
    made: Made,
    credentials: Credentials,
    *,
    generator: tuple[str, str],
) -> bytes:
    """The file with a signed manifest that says what made it; the pixels stay as they are.

    Args:
        data: A complete file.
        format: Its.
        made: How.
        credentials: What signs.
        generator: Name and version of the program.

    Raises:
        LibraryMissing: The extra is not installed.
        SignerRefused: The library does not take the certificate, or cannot write the file.
    """
    c2pa = _library()
    media = f"image/{format.value}"
    name, version = generator
    said = {"session_id": made.session_id, "model_id": made.model_id}
    said = {key: value for key, value in said.items() if value}
    action = {
        "action": "c2pa.created",
        "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "softwareAgent": {"name": name, "version": version},
        "digitalSourceType": _BY_A_MODEL if made.drawn else _CHANGED,
    }
    assertions = [{"label": _ACTIONS, "data": {"actions": [action]}}]
    if said:
        assertions.append({"label": GENERATION, "data": said})
    manifest = {
        "claim_generator_info": [{"name": name, "version": version}],
        "format": media,
        "assertions": assertions,
    }
    info = c2pa.C2paSignerInfo(
        c2pa.C2paSigningAlg[credentials.algorithm],
        credentials.certificates,
        credentials.key,
        None,  # no time stamps: they come from the network
    )
    out = io.BytesIO()
    try:
        signer = c2pa.Signer.from_info(info)
        context = c2pa.Context.from_dict(_settings(Trust()))
        with c2pa.Builder(json.dumps(manifest), context=context) as builder:
            builder.sign(signer, media, io.BytesIO(data), out)
    except c2pa.C2paError as error:
        raise SignerRefused(
            f"provenance_certificate: C2PA does not sign with it: {error}"
        ) from None
    return out.getvalue()


def read(file: BinaryIO, media: str, trust: Trust) -> Manifest:
    """What the file's manifest says, and whether it holds.

    Args:
        file: At its beginning.
        media: Its type, as "image/png".
        trust: Whose signatures count.

    Raises:
        LibraryMissing: The extra is not installed.
    """
    c2pa = _library()
    try:
        context = c2pa.Context.from_dict(_settings(trust))
        with c2pa.Reader(media, file, context=context) as reader:
            told = json.loads(reader.json())
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.RemoteManifest):
        return Manifest()
    except (c2pa.C2paError, ValueError):
        return Manifest(SignatureState.BROKEN)
    active = told.get("manifests", {}).get(told.get("active_manifest", ""), {})
    who = active.get("signature_info", {})
    assertions = {each.get("label"): each.get("data") for each in active.get("assertions", [])}
    generation = assertions.get(GENERATION)
    session_id = generation.get("session_id") if isinstance(generation, dict) else ""
    return Manifest(
        _state(told),
        _text(who.get("common_name") or who.get("issuer")),
        _moment(who.get("time")) or _moment(_created(assertions)),
        _generator(active),
        _text(session_id),
    )


def _state(told: dict[str, Any]) -> SignatureState:
    state = _STATES.get(told.get("validation_state", ""), SignatureState.BROKEN)
    found = told.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    codes = [str(each.get("code")) for each in found]
    # A certificate that is over, or of a kind that C2PA does not know, breaks nothing.
    about_the_signer = bool(codes) and all(code.startswith(_SIGNER) for code in codes)
    if state is SignatureState.BROKEN and about_the_signer:
        return SignatureState.UNKNOWN_SIGNER
    return state


def _created(assertions: dict[Any, Any]) -> object:
    actions = assertions.get(_ACTIONS) or assertions.get("c2pa.actions")
    for each in actions.get("actions", []) if isinstance(actions, dict) else []:
        if isinstance(each, dict) and each.get("when"):
            return each["when"]
    return None


def _generator(active: dict[str, Any]) -> str:
    for each in active.get("claim_generator_info") or []:
        return _text(f"{each.get('name', '')} {each.get('version', '')}".strip())
    return _text(active.get("claim_generator"))


def _text(value: object) -> str:
    return str(value)[:_MOST_SAID] if value else ""


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError:
        return None


def _settings(trust: Trust) -> dict[str, Any]:
    return {
        "core": {"allowed_network_hosts": []},
        "trust": {"user_anchors": trust.anchors} if trust.anchors else {},
        "verify": {
            "verify_after_sign": False,
            "verify_trust": True,
            "verify_timestamp_trust": False,
            "ocsp_fetch": False,
            "remote_manifest_fetch": False,
        },
        "builder": {"thumbnail": {"enabled": False}},
    }


def _library() -> Any:
    try:
        import c2pa  # type: ignore[import-untyped]
    except ImportError:
        raise LibraryMissing from None
    return c2pa
