"""The commands about devices, against a scripted server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    device_pb2,
    errors_pb2,
    event_pb2,
    model_info_pb2,
    model_pb2,
    session_pb2,
)
from server.cli import device_watch
from tests.server.cli.conftest import Run
from tests.server.cli.messages import accepted, completed, event
from tests.server.cli.scripted import ScriptedServer

MEASURED = common_pb2.FIGURE_QUALITY_MEASURED
ESTIMATED = common_pb2.FIGURE_QUALITY_ESTIMATED
GIB = 2**30


def figure(value: int, quality: common_pb2.FigureQuality = MEASURED) -> common_pb2.ByteFigure:
    return common_pb2.ByteFigure(value_bytes=value, quality=quality, source="a driver")


@pytest.fixture
def machine(scripted: ScriptedServer) -> ScriptedServer:
    """A processor that works on something, and a graphics card that cannot be used."""
    scripted.device_list.devices.add(
        device_id="cpu:0", kind=1, name="Ryzen", state=2, is_default=True
    )
    scripted.device_list.devices.add(
        device_id="cuda:0", kind=2, name="GTX", state=6, explanation="driver too old"
    )
    scripted.device_list.probes.add(kind=4, explanation="not Windows")
    scripted.device_statuses["cpu:0"] = device_pb2.GetDeviceStatusResponse(
        load=0.42, temperature_celsius=61.4, queue_depth=3, session_id="ses-9"
    )
    scripted.device_memory["cpu:0"] = device_info_pb2.DeviceMemory(
        total=figure(16 * GIB), free=figure(4 * GIB, ESTIMATED)
    )
    return scripted


def rows(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines()]


def test_devices_is_one_row_each_and_why_others_are_not_there(
    against: Run, machine: ScriptedServer
) -> None:
    """Tab-separated where no terminal is; estimates and unknown figures are marked."""
    done = against("devices", "--refresh")

    headings, cpu, card = rows(done.stdout)
    assert headings[:5] == ["device", "kind", "name", "state", "free / total"]
    assert cpu == [
        *("cpu:0 *", "cpu", "Ryzen", "ready", "~4.0 GiB / 16.0 GiB"),
        *("42%", "61 °C", "3", "ses-9", ""),
    ]
    assert card == [
        *("cuda:0", "cuda", "GTX", "unavailable", "? / ?", "", "", "0", "", "driver too old"),
    ]
    assert "no direct-ml device: not Windows" in done.stderr
    assert machine.of_type(device_pb2.ListDevicesRequest)[0].refresh


def test_devices_in_json_is_the_contracts_own_form(
    against: Run, machine: ScriptedServer
) -> None:
    """With field names as in the proto, statuses and memory in the order of devices."""
    said = json.loads(against("devices", "--json").stdout)

    assert said["devices"][0]["device_id"] == "cpu:0"
    assert said["probes"][0]["explanation"] == "not Windows"
    assert [status["queue_depth"] for status in said["statuses"]] == [3, 0]
    assert said["memory"][0]["total"]["source"] == "a driver"


def test_watching_is_a_line_for_each_thing_that_happens(
    against: Run, machine: ScriptedServer
) -> None:
    """Heartbeats are nothing; the end of the server ends it."""
    device = device_info_pb2.DeviceInfo(
        device_id="cuda:0", state=3, explanation="it was\x1b[31m killed"
    )
    machine.device_events = [
        device_pb2.WatchDevicesResponse(kind=device_pb2.DEVICE_EVENT_KIND_HEARTBEAT),
        device_pb2.WatchDevicesResponse(kind=device_pb2.DEVICE_EVENT_KIND_SNAPSHOT_END),
        device_pb2.WatchDevicesResponse(kind=device_pb2.DEVICE_EVENT_KIND_LOST, device=device),
    ]

    done = against("devices", "--watch")

    assert [line[1:] for line in rows(done.stdout)] == [
        ["cuda:0", "lost", "recovering", "it was[31m killed"]
    ]
    assert "SHUTTING_DOWN" in done.stderr
    assert done.exit_code == 3


def test_watching_in_json_is_one_event_a_line(against: Run, machine: ScriptedServer) -> None:
    machine.device_events = [
        device_pb2.WatchDevicesResponse(kind=device_pb2.DEVICE_EVENT_KIND_HEARTBEAT)
    ]

    first, failure = map(
        json.loads, against("devices", "--watch", "--json").stdout.splitlines()
    )

    assert first["kind"] == "DEVICE_EVENT_KIND_HEARTBEAT"
    assert failure["reason"] == "SHUTTING_DOWN"


def test_in_a_terminal_watching_is_a_table_also_of_a_server_that_ends(
    against: Run, machine: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(device_watch, "draws", lambda: True)
    machine.device_events = [
        device_pb2.WatchDevicesResponse(kind=device_pb2.DEVICE_EVENT_KIND_HEARTBEAT)
    ]

    class Listener(threading.Thread):
        """Hears the end before anything is drawn."""

        def start(self) -> None:
            super().start()
            self.join(60)

    threads = SimpleNamespace(Event=threading.Event, Thread=Listener)
    monkeypatch.setattr(device_watch, "threading", threads)

    done = against("devices", "--watch")

    assert "Ryzen" in done.stdout
    assert "driver too old" in done.stdout
    assert done.exit_code == 3  # the server ended


def test_a_server_that_has_ended_is_not_asked_again(
    against: Run, machine: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words say why; another call would only find nobody there."""
    monkeypatch.setattr(device_watch, "draws", lambda: True)
    waiting = threading.Event()

    class Waited(threading.Event):
        """Lets the server end while nothing happens."""

        def wait(self, timeout: float | None = None) -> bool:
            waiting.set()
            return super().wait(30)

    threads = SimpleNamespace(Event=Waited, Thread=threading.Thread)
    monkeypatch.setattr(device_watch, "threading", threads)

    def events() -> Iterator[device_pb2.WatchDevicesResponse]:
        waiting.wait(30)
        yield from ()

    machine.device_events = events()

    done = against("devices", "--watch")

    assert "SHUTTING_DOWN" in done.stderr
    assert len(machine.of_type(device_pb2.ListDevicesRequest)) == 1


def test_show_tells_what_was_measured_with_units(against: Run, machine: ScriptedServer) -> None:
    machine.capabilities = device_pb2.GetDeviceCapabilitiesResponse(
        device_id="cuda:0",
        largest_allocation=figure(3 * GIB),
        attention_backends=[
            device_pb2.ATTENTION_BACKEND_FLASH,
            device_pb2.ATTENTION_BACKEND_MATH,
        ],
        has_float64=True,
        host_to_device_gbps=12.5,
        software_versions={"torch": "2.13"},
        problems=["bfloat16 gives wrong results."],
    )
    machine.capabilities.data_types.add(
        data_type=common_pb2.TENSOR_DATA_TYPE_FLOAT16,
        works=True,
        max_relative_error=1e-3,
        matmul_tflops=45.6,
    )
    machine.capabilities.data_types.add(data_type=common_pb2.TENSOR_DATA_TYPE_BFLOAT16)

    done = against("devices", "show", "gpu", "--refresh")

    _, half, brain = rows(done.stdout)[:3]
    assert half == ["float16", "yes", "1.0e-03", "45.6 TFLOP/s"]
    assert brain[:2] == ["bfloat16", "no"]
    said = " ".join(done.stdout.split())
    assert "largest allocation: 3.0 GiB (a driver)" in said
    assert "attention: flash, math" in said
    assert "host to device: 12.50 GB/s" in said
    assert "pinned memory: no" in said
    assert "with: torch 2.13" in said
    assert "problem: bfloat16 gives wrong results." in said
    assert machine.requests == [
        device_pb2.GetDeviceCapabilitiesRequest(device_id="gpu", refresh=True)
    ]
    plain = json.loads(against("devices", "show", "--json").stdout)
    assert plain["device_id"] == "cuda:0"


def test_default_says_which_it_is_now(against: Run, machine: ScriptedServer) -> None:
    done = against("devices", "default", "cpu:0")
    missing = against("devices", "default", "xpu:0")

    assert done.stdout == "cpu:0 (Ryzen) is the default device now.\n"
    assert json.loads(against("devices", "default", "cpu:0", "--json").stdout)["device"]
    assert missing.exit_code == 4
    assert "DEVICE_NOT_FOUND" in missing.stderr


@pytest.fixture
def optimized(machine: ScriptedServer) -> Callable[..., None]:
    """Scripts an optimisation with these changes."""

    def script(*changes: device_info_pb2.OptimizationChange) -> None:
        report = device_info_pb2.OptimizationReport(
            profile=device_info_pb2.OPTIMIZATION_PROFILE_FAST,
            changes=changes,
            peak_memory_before=figure(2 * GIB),
            peak_memory_after=figure(GIB, ESTIMATED),
        )
        report.step_before.FromMilliseconds(500)
        report.step_after.FromMilliseconds(250)
        last = completed(3)
        last.completed.optimization.CopyFrom(report)
        measuring = event_pb2.PhaseStarted(phase=session_pb2.PHASE_MEASURING)
        machine.optimization = [
            accepted(),
            event(2, phase_started=measuring),
            last,
        ]

    return script


def test_optimize_tells_changes_and_their_effect(
    against: Run, machine: ScriptedServer, optimized: Callable[..., None]
) -> None:
    optimized(
        device_info_pb2.OptimizationChange(
            setting=device_info_pb2.OPTIMIZATION_SETTING_VAE_TILING, before="off", after="on"
        ),
        device_info_pb2.OptimizationChange(
            setting=device_info_pb2.OPTIMIZATION_SETTING_DATA_TYPE,
            part=common_pb2.MODEL_PART_VAE,
            before="float32",
            after="float16",
        ),
    )

    done = against("devices", "optimize", "gpu", "--profile", "fast", "--model", "emoji-xl")

    assert done.exit_code == 0
    assert "Measuring" in done.stderr
    assert "vae-tiling: off -> on" in done.stderr
    assert "data-type of the vae: float32 -> float16" in done.stderr
    assert "one step: 500 ms -> 250 ms" in done.stderr
    assert "peak memory: 2.0 GiB -> ~1.0 GiB" in done.stderr
    assert machine.requests == [
        device_pb2.OptimizeDeviceRequest(
            device_id="gpu",
            profile=device_info_pb2.OPTIMIZATION_PROFILE_FAST,
            model_id="emoji-xl",
        )
    ]


def test_optimize_in_json_ends_in_the_report(
    against: Run, optimized: Callable[..., None]
) -> None:
    optimized()

    lines = against("devices", "optimize", "--json").stdout.splitlines()

    *events, summary = map(json.loads, lines)
    assert {line["type"] for line in events} == {"event"}
    assert summary["type"] == "summary"
    assert summary["report"]["step_after"] == "0.250s"
    assert "nothing changed" in against("devices", "optimize").stderr


def test_an_unknown_profile_is_refused_with_those_there_are(
    against: Run, machine: ScriptedServer
) -> None:
    done = against("devices", "optimize", "--profile", "turbo")

    assert done.exit_code == 2
    assert "balanced, low-memory, fast" in done.stderr
    assert machine.requests == []


def test_restart_tells_its_phases_and_its_failure(
    against: Run, machine: ScriptedServer
) -> None:
    draining = event_pb2.PhaseStarted(phase=session_pb2.PHASE_DRAINING)
    starting = event_pb2.PhaseStarted(phase=session_pb2.PHASE_STARTING_WORKER)
    machine.restart = [
        accepted(),
        event(2, phase_started=draining),
        event(3, phase_started=starting),
        completed(4),
    ]
    done = against("devices", "restart", "cpu:0", "--force")
    died = errors_pb2.Failure(status_code=14, message="The new worker died too.")
    machine.restart[-1] = event(4, failed=event_pb2.SessionFailed(failure=died))
    failed = against("devices", "restart")

    assert done.exit_code == 0
    assert "Waiting for what runs to end" in done.stderr
    assert "Starting the worker" in done.stderr
    assert machine.requests[0] == device_pb2.RestartWorkerRequest(device_id="cpu:0", force=True)
    assert failed.exit_code == 3
    assert "The new worker died too." in failed.stderr


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (model_info_pb2.MODEL_ORIGIN_LOADED, "on cuda:0, and was already: 2.0 GiB"),
        (model_info_pb2.MODEL_ORIGIN_CACHED, "on cuda:0, from main memory: 2.0 GiB"),
        (model_info_pb2.MODEL_ORIGIN_DISK, "on cuda:0, from disk: 2.0 GiB"),
    ],
)
def test_load_says_where_the_model_is_and_where_it_was(
    origin: model_info_pb2.ModelOrigin, said: str, against: Run, machine: ScriptedServer
) -> None:
    last = completed(2)
    last.completed.loaded_model.device_id = "cuda:0"
    last.completed.loaded_model.origin = origin
    last.completed.loaded_model.size.CopyFrom(figure(2 * GIB))
    machine.loading = [accepted(), last]

    done = against("models", "load", "emoji-xl", "--any-of", "cuda")

    assert done.exit_code == 0, done.output
    assert said in done.stderr
    assert machine.requests == [
        model_pb2.LoadModelRequest(
            model_id="emoji-xl",
            placement=device_info_pb2.DevicePlacement(
                any=device_info_pb2.DeviceChoice(kinds=[device_info_pb2.DEVICE_KIND_CUDA])
            ),
        )
    ]
