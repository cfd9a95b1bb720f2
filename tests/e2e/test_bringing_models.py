"""Models that the command line brings to a real server: from this machine, and from a hub."""

from __future__ import annotations

import json
from pathlib import Path

from tests.domains.model.disk import DEMO
from tests.e2e.programs import run
from tests.e2e.test_command_line import deviceops
from tests.running import start_server
from tests.server.cli.fake_hub import FakeHub

LORA = DEMO.parent / "line-art.safetensors"


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


async def test_models_are_brought_and_drawn_with(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    hub = FakeHub(content(DEMO) | {"unet/old.bin": b"left"})
    with start_server(tmp_path / "data", "--model-root", str(root)) as server:
        code, out, err = await run(*deviceops(server, "models", "import", str(LORA)))
        assert code == 0, out + err
        code, out, err = await run(
            *deviceops(server, "models", "pull", "org/model", "--name", "fetched"),
            HF_ENDPOINT=hub.url,
            HF_HUB_OFFLINE="0",
            HF_TOKEN="secret",
            HF_HOME=str(tmp_path / "home"),
        )
        assert code == 0, out + err
        assert "Bearer secret" in hub.tokens
        assert "unet/old.bin" not in hub.fetched

        fetched = [name for name in hub.fetched if name.endswith(".safetensors")]
        code, _, again = await run(*deviceops(server, "models", "import", str(LORA)))
        assert code != 0
        assert "NAME_TAKEN" in again
        code, _, again = await run(
            *deviceops(server, "models", "pull", "org/model", "--name", "fetched"),
            HF_ENDPOINT=hub.url,
            HF_HUB_OFFLINE="0",
            HF_HOME=str(tmp_path / "home"),
        )
        assert code != 0
        assert "NAME_TAKEN" in again
        # Nothing large is fetched or sent for a name that is taken.
        assert [name for name in hub.fetched if name.endswith(".safetensors")] == fetched
        code, out, err = await run(*deviceops(server, "artifacts", "list", "--json"))
        assert code == 0, out + err
        assert json.loads(out)["artifacts"] == []  # and what went up before was let go
        code, out, err = await run(*deviceops(server, "models"), COLUMNS="200")
        assert "line-art" in out
        code, out, err = await run(
            *deviceops(server, "generate", "a red apple", "--model", "fetched", "--steps", "1"),
            *("-o", str(tmp_path / "apple.png")),
        )
        assert code == 0, out + err
    assert sorted(path.name for path in root.iterdir()) == ["fetched", "line-art.safetensors"]
    assert not list((tmp_path / "home" / "deviceops").rglob("*.safetensors"))
    hub.shutdown()
    hub.server_close()
