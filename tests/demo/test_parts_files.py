"""What the training scripts share at both ends: their files and their command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from demo.train.parts.command import parse
from demo.train.parts.files import by_part, save_half, write_facts


class TestFiles:
    def test_weights_become_half_with_their_metadata(self, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        save_half({"w": torch.tensor([1.5]), "n": torch.tensor([3])}, path, {"trigger": "ink"})

        read = load_file(path)
        assert read["w"].dtype == torch.float16
        assert read["n"].dtype == torch.int64
        with safe_open(path, "pt") as file:
            assert file.metadata()["trigger"] == "ink"
        assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]

    def test_what_half_cannot_hold_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="big: holds values that float16 cannot"):
            save_half({"big": torch.tensor([1e6])}, tmp_path / "a.safetensors")
        assert not list(tmp_path.iterdir())

    def test_networks_in_one_file_come_apart_by_name(self) -> None:
        one, other = torch.ones(1), torch.zeros(1)

        parts = by_part({"unet.a.b": one, "text_encoder.a.b": other})

        assert parts == {"unet": {"a.b": one}, "text_encoder": {"a.b": other}}

    def test_facts_are_json(self, tmp_path: Path) -> None:
        write_facts(tmp_path / "facts.json", {"loss": 0.5})

        assert json.loads((tmp_path / "facts.json").read_text()) == {"loss": 0.5}


class TestCommand:
    def test_smoke_is_tiny_unless_told_otherwise(self, tmp_path: Path) -> None:
        smoke = parse("d", ["--out", str(tmp_path / "o"), "--smoke"], steps=900, batch=64)
        full = parse(
            "d",
            ["--out", str(tmp_path), "--device", "cpu", "--minutes", "2.5", "--batch", "8"],
            steps=900,
            batch=64,
        )

        assert (smoke.steps, smoke.batch, smoke.device.type) == (2, 2, "cpu")
        assert smoke.emoji is not None
        assert smoke.out.is_dir()
        assert (full.steps, full.batch, full.minutes, full.emoji) == (900, 8, 2.5, None)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [(["--steps", "0"], "--steps: must be above 0"), (["--minutes", "-1"], "--minutes")],
    )
    def test_a_wrong_value_ends_with_its_name(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        wrong: list[str],
        message: str,
    ) -> None:
        with pytest.raises(SystemExit):
            parse("d", ["--out", str(tmp_path), *wrong], steps=1, batch=1)
        assert message in capsys.readouterr().err

    def test_only_a_script_that_continues_takes_a_start_and_it_must_be_there(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        argv = ["--out", str(tmp_path), "--smoke", "--start"]
        given = parse("d", [*argv, str(tmp_path)], steps=1, batch=1, continues=True)
        assert given.start == tmp_path
        for continues, said in ((True, "gone is not a folder"), (False, "unrecognized")):
            with pytest.raises(SystemExit):
                parse("d", [*argv, "gone"], steps=1, batch=1, continues=continues)
            assert said in capsys.readouterr().err

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_cuda_is_not_silently_replaced(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            parse("d", ["--out", str(tmp_path), "--device", "cuda"], steps=1, batch=1)
        assert "there is no CUDA device here" in capsys.readouterr().err
