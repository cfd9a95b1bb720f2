"""The listing and local commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deviceops.v1 import (
    common_pb2,
    model_info_pb2,
    model_pb2,
)
from tests.server.cli.conftest import Run
from tests.server.cli.scripted import ScriptedServer


@pytest.fixture
def machine(scripted: ScriptedServer) -> ScriptedServer:
    """A processor that works, a graphics card that does not, three models."""
    cpu = scripted.device_list.devices.add(
        device_id="cpu:0", kind=1, name="Ryzen", state=2, is_default=True
    )
    cpu.total_memory.value_bytes = 16 * 2**30
    cpu.total_memory.quality = common_pb2.FIGURE_QUALITY_MEASURED
    scripted.device_list.devices.add(
        device_id="cuda:0", kind=2, name="GTX", state=6, explanation="driver too old"
    )
    scripted.device_list.probes.add(kind=4, explanation="not Windows")
    scripted.models = [
        model_info_pb2.ModelInfo(
            model_id="emoji-xl",
            type=model_info_pb2.MODEL_TYPE_CHECKPOINT,
            architecture=model_info_pb2.MODEL_ARCHITECTURE_SDXL,
            native_width=256,
            native_height=256,
            parameter_count=28_000_000,
            size_bytes=2**20,
            usable=True,
            is_default=True,
            tags=["demo"],
        ),
        model_info_pb2.ModelInfo(
            model_id="style", type=model_info_pb2.MODEL_TYPE_LORA, usable=True
        ),
        model_info_pb2.ModelInfo(model_id="torn", type=model_info_pb2.MODEL_TYPE_CHECKPOINT),
    ]
    scripted.models[2].problem.message = "It is shorter than its header says."
    return scripted


@pytest.mark.parametrize("group", ["devices", "models", "sessions", "artifacts"])
def test_list_may_be_said(against: Run, machine: ScriptedServer, group: str) -> None:
    plain, said = against(group, "--json"), against(group, "list", "--json")
    assert plain.exit_code == said.exit_code == 0, said.stderr
    assert plain.stdout == said.stdout
    assert plain.stdout
    again = against(group, "list", "list")
    assert again.exit_code == 2


def test_models_lists_every_page(against: Run, machine: ScriptedServer) -> None:
    """The server decides how long a page is."""
    done = against("models")

    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["model", "emoji-xl *", "style", "torn"]
    assert rows[1][2:7] == ["checkpoint", "sdxl", "256x256", "28.0 M", "1.0 MiB"]
    assert rows[3][7] == "It is shorter than its header says."
    assert len(json.loads(against("models", "--json").stdout)["models"]) == 3


def test_models_that_were_left_out_are_told_beside_the_table(
    against: Run, machine: ScriptedServer
) -> None:
    machine.left_out = ["'aux' is a name that Windows cannot have."]

    shown = against("models")

    assert shown.stderr == f"left out: {machine.left_out[0]}\n"
    assert json.loads(against("models", "--json").stdout)["problems"] == machine.left_out


def test_model_filters_reach_the_server(against: Run, machine: ScriptedServer) -> None:
    """By the words that the table shows."""
    against(
        *("models", "--type", "control-net", "--architecture", "sdxl"),
        *("--format", "safetensors", "--tag", "a", "--order", "size", "--usable"),
    )

    assert machine.requests[0] == model_pb2.ListModelsRequest(
        type=model_info_pb2.MODEL_TYPE_CONTROL_NET,
        architecture=model_info_pb2.MODEL_ARCHITECTURE_SDXL,
        format=model_info_pb2.MODEL_FORMAT_SAFETENSORS,
        tags=["a"],
        order=model_pb2.MODEL_ORDER_SIZE,
        usable_only=True,
        page_size=500,
    )


def test_one_model_is_shown_and_a_missing_one_is_not_found(
    against: Run, machine: ScriptedServer
) -> None:
    """Exit code 4 for what is not there."""
    shown = against("models", "show", "emoji-xl")
    missing = against("models", "show", "nothing")

    assert "model:        emoji-xl (default)\n" in shown.stdout
    assert "tags:         demo\n" in shown.stdout
    assert "sha256:       pending\n" in shown.stdout
    assert missing.exit_code == 4
    assert "reason: MODEL_NOT_FOUND (NOT_FOUND)" in missing.stderr


def test_token_prints_it_alone_or_as_a_header(deviceops: Run, own_settings: Path) -> None:
    """For scripts: nothing else on stdout."""
    value = "s" * 43
    (own_settings / "token").write_text(value)
    (own_settings / "token").chmod(0o600)

    assert deviceops("token").stdout == f"{value}\n"
    assert deviceops("token", "--header").stdout == f"authorization: Bearer {value}\n"


def test_token_before_the_first_start(deviceops: Run, own_settings: Path) -> None:
    """Says what makes it."""
    done = deviceops("token")

    assert done.exit_code == 4
    assert done.stdout == ""
    assert "deviceops serve" in done.stderr


def test_what_a_file_is_for_and_waits_for_is_shown(
    against: Run, machine: ScriptedServer
) -> None:
    machine.models.append(
        model_info_pb2.ModelInfo(
            model_id="ink",
            type=model_info_pb2.MODEL_TYPE_LORA,
            kind="LoKr",
            prediction_type=model_info_pb2.PREDICTION_TYPE_V_PREDICTION,
            zero_terminal_snr=True,
            distilled_steps=4,
            lora_rank=8,
            lora_alpha=4.5,
            usable=True,
            remarks=["It waits."],
        )
    )

    shown = against("models", "show", "ink").stdout
    row = next(line for line in against("models").stdout.splitlines() if line.startswith("ink"))

    told = dict(line.split(":", 1) for line in shown.splitlines())
    assert {name: text.strip() for name, text in told.items()} | {
        "kind": "LoKr",
        "predicts": "v-prediction, zero terminal SNR",
        "steps": "made for 4",
        "rank": "8, alpha 4.5",
        "usable": "yes",
        "remark": "It waits.",
    } == {name: text.strip() for name, text in told.items()}
    assert row.endswith("It waits.")


def test_config_shows_each_value_and_its_source(
    deviceops: Run, own_settings: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Environment, file and default; and never the token."""
    (own_settings / "token").write_text("secret-" * 7)
    (own_settings / "token").chmod(0o600)
    monkeypatch.setenv("DEVICEOPS_TOKEN", "secret-" * 7)
    monkeypatch.setenv("DEVICEOPS_PORT", "50099")
    (tmp_path / "config.toml").write_text('default_model = "emoji-xl"\n')

    rows = [line.split("\t") for line in deviceops("config").stdout.splitlines()]
    said = json.loads(deviceops("config", "--json").stdout)

    assert ["port", "50099", "DEVICEOPS_PORT"] in rows
    assert ["default_model", "emoji-xl", str(tmp_path / "config.toml")] in rows
    assert ["auth", "true", "default"] in rows
    assert {"name": "port", "value": 50099, "source": "DEVICEOPS_PORT"} in said["settings"]
    assert "secret-" not in str(rows) + str(said)


def test_config_of_a_broken_file_names_the_fault(deviceops: Run, tmp_path: Path) -> None:
    """Exit code 2 and the key at fault."""
    (tmp_path / "broken.toml").write_text("prot = 1\n")

    done = deviceops("config", "--config", tmp_path / "broken.toml")

    assert done.exit_code == 2
    assert "prot: there is no such setting" in done.stderr
