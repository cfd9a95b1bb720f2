"""`deviceops process` and `deviceops upscale`, run as a person does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from server.cli.chain_steps import parse_step
from server.cli.choices import UnusableOptions
from tests.domains.chain.photograph import PATH
from tests.domains.chain.pictures import noise
from tests.e2e.test_workflow_commands import command
from tests.running import RunningServer


def test_a_picture_is_finished_and_its_sizes_are_told(
    server: RunningServer, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x013B] = "Ada"
    noise(40, 30, alpha=True).image().save(tmp_path / "in.png", exif=exif)
    step = "--step crop:left=1,top=2,width=20,height=10 --step 'watermark:text=a,b,scale=0.5'"

    done = command(
        server, tmp_path, f"deviceops process in.png {step} -o cut.png --keep-metadata"
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["cut.png"]
    assert "40x30 -> 20x10" in done.stderr
    with Image.open(tmp_path / "cut.png") as image:
        assert image.size == (20, 10)
        assert image.getexif()[0x013B] == "Ada"


def test_several_are_enlarged_and_one_that_is_none_fails(
    server: RunningServer, tmp_path: Path
) -> None:
    Image.new("RGB", (12, 8), "navy").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")

    done = command(server, tmp_path, "deviceops upscale a.png b.png --factor 2 -o out")

    assert done.returncode == 2, done.stderr
    [path] = done.stdout.splitlines()
    with Image.open(tmp_path / path) as image:
        assert np.asarray(image).shape[:2] == (16, 24)
    assert "image" in done.stderr


def test_previews_come_where_they_are_asked_for(server: RunningServer, tmp_path: Path) -> None:
    Image.new("RGB", (200, 200), "navy").save(tmp_path / "a.png")
    steps = 3 * "--step deblur:iterations=10 "

    done = command(
        server, tmp_path, f"deviceops process a.png {steps} --preview-every 1 --json -o out"
    )

    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    previews = [each["event"]["preview"] for each in told if "preview" in each.get("event", {})]
    assert previews
    assert all(each["width"] == each["height"] == 200 for each in previews)
    assert all(each["data_bytes"] > 0 for each in previews)


def test_what_is_drawn_is_finished_and_shown_meanwhile(
    server: RunningServer, tmp_path: Path
) -> None:
    drawn = "'a red apple' --seed 7 --steps 2 --width 256 --height 256"
    steps = "--finish upscale:factor=2 --finish crop:width=400,height=300"

    done = command(
        server,
        tmp_path,
        f"deviceops generate {drawn} {steps} --preview-every 1 --json -o a.png",
    )

    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (400, 300)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    events = [each["event"] for each in told if "event" in each]
    phase = None
    shown = []
    for event in events:
        phase = event.get("phase_started", {}).get("phase", phase)
        if "preview" in event and phase == "PHASE_POSTPROCESSING":
            shown.append(event["preview"])
    assert shown
    refused = command(server, tmp_path, f"deviceops generate {drawn} --finish polish")
    assert refused.returncode == 2
    assert "--finish polish: there is no step 'polish'" in refused.stderr


@pytest.mark.demonstration
def test_an_upscaler_is_measured_as_the_page_shows(
    server: RunningServer, tmp_path: Path
) -> None:
    shutil.copy(PATH, tmp_path / "photo.png")
    page = Path(__file__).parents[2] / "docs" / "postprocessing.md"
    commands = re.findall(r"^\.venv/bin/(deviceops .+)$", page.read_text(), re.MULTILINE)
    (bench,) = [each for each in commands if "postprocessors bench" in each]
    for line in commands[commands.index(bench) - 2 : commands.index(bench) + 1]:
        done = command(server, tmp_path, line)
        assert done.returncode == 0, done.stderr

    figures = {
        name: [float(each) for each in re.findall(r"[\d.]+", found)]
        for name, found in re.findall(
            r"^  (against the reference|without it): (.+)$", done.stderr, re.MULTILINE
        )
    }
    with_it, without = figures["against the reference"], figures["without it"]
    assert all(mine > plain for mine, plain in zip(with_it, without, strict=True))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("blur", "no step 'blur'"),
        ("crop:left", "not FIELD=VALUE"),
        ("crop:wide=3", "no field 'wide'"),
        ("sharpen:amount=much", "is no number"),
        ("watermark:anchor=middle", "none of"),
    ],
)
def test_a_step_that_is_none_is_refused(text: str, why: str) -> None:
    def picture(name: str):  # type: ignore[no-untyped-def]
        raise AssertionError(name)

    with pytest.raises(UnusableOptions, match=why):
        parse_step(text, picture)
