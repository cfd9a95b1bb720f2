"""Checks of a running server, through its own contract."""

from __future__ import annotations

from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from deviceops.v1 import device_info_pb2, device_pb2, model_info_pb2, model_pb2, system_pb2
from server.app import SERVICE_NAMES
from server.cli.checks import Finding, note, ok, problem
from server.cli.client import Client
from server.cli.failures import CallFailed
from server.cli.wording import enum_word
from server.version import own_version

_SERVING = health_pb2.HealthCheckResponse.SERVING


def check_health(client: Client) -> list[Finding]:
    """Each service's own word. Raises `CallFailed` (UNAVAILABLE) when nothing answers."""
    down: list[str] = []
    for service in SERVICE_NAMES:
        try:
            answer = client.ask(
                client.health.Check, health_pb2.HealthCheckRequest(service=service)
            )
        except CallFailed as error:
            if error.failure.status == "UNAVAILABLE":
                raise
            down.append(f"{service} ({error.failure.message})")
            continue
        if answer.status != _SERVING:
            down.append(service)
    if down:
        advice = "It may still be starting or draining; its log says more."
        return [problem("services", f"not serving: {', '.join(down)}", advice)]
    return [ok("services", f"all {len(SERVICE_NAMES)} serving")]


def check_version(client: Client) -> list[Finding]:
    """Whether server and command line are of one version, and who the caller is there."""
    try:
        info = client.ask(client.system.GetServerInfo, system_pb2.GetServerInfoRequest())
    except CallFailed as error:
        if error.failure.status == "UNIMPLEMENTED":
            return [note("version", "the server does not tell", error.failure.advice)]
        return [_refused("version", error)]
    role = enum_word(system_pb2.ClientRole, info.client_role, "CLIENT_ROLE_")
    found = [ok("caller", f"{info.client_name or 'nameless'}, with the role {role}")]
    if info.server_version != own_version():
        versions = f"server {info.server_version}, command line {own_version()}"
        advice = "Use those of one version; a newer field is refused with UNKNOWN_FIELD."
        found.append(note("version", versions, advice))
    return found


def check_devices(client: Client) -> list[Finding]:
    """Which devices can work, and why others cannot."""
    try:
        answer = client.ask(client.devices.ListDevices, device_pb2.ListDevicesRequest())
    except CallFailed as error:
        return [_refused("devices", error)]
    ready = [d for d in answer.devices if d.state == device_info_pb2.DEVICE_STATE_READY]
    starting = any(d.state == device_info_pb2.DEVICE_STATE_STARTING for d in answer.devices)
    if ready:
        found = [ok("devices", ", ".join(f"{d.device_id} ({d.name})" for d in ready))]
    elif starting:
        found = [note("devices", "none is ready yet", "Look again in a minute.")]
    else:
        advice = "See why below, and in the server's log."
        found = [problem("devices", "none is ready", advice)]
    for device in answer.devices:
        if device.state != device_info_pb2.DEVICE_STATE_READY:
            state = enum_word(device_info_pb2.DeviceState, device.state, "DEVICE_STATE_")
            found.append(note(f"device {device.device_id}", f"{state}: {device.explanation}"))
    for probe in answer.probes:
        if not probe.device_count:
            kind = enum_word(device_info_pb2.DeviceKind, probe.kind, "DEVICE_KIND_")
            found.append(note(f"devices of kind {kind}", f"none: {probe.explanation}"))
    return found


def check_models(client: Client) -> list[Finding]:
    """Whether there is anything to draw with, and what is wrong with the rest."""
    try:
        pages = list(
            client.pages(client.models.ListModels, model_pb2.ListModelsRequest(page_size=1000))
        )
        models = [model for page in pages for model in page.models]
    except CallFailed as error:
        return [_refused("models", error)]
    usable = [
        m.model_id
        for m in models
        if m.usable and m.type == model_info_pb2.MODEL_TYPE_CHECKPOINT
    ]
    found = [
        ok("models", f"checkpoints: {', '.join(usable)}")
        if usable
        else problem(
            "models",
            f"no usable checkpoint among {len(models)} models",
            "Put one into a model folder (deviceops config tells which), then look again.",
        )
    ]
    for model in models:
        if not model.usable:
            found.append(note(f"model {model.model_id}", model.problem.message))
    left_out = pages[-1].problems if pages else ()
    return [*found, *(note("left out of the models", sentence) for sentence in left_out)]


def _refused(name: str, error: CallFailed) -> Finding:
    failure = error.failure
    return problem(name, failure.message, failure.advice or "The server's log says more.")
