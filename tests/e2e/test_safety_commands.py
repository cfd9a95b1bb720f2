"""The commands that the page about postprocessing shows, run as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.domains.picture.drawn import painting, saved
from tests.e2e.test_workflow_commands import command
from tests.running import RunningServer

PAGE = (Path(__file__).parents[2] / "docs/postprocessing.md").read_text("utf-8")
SECTION = PAGE.partition("\n## Safety\n")[2]
COMMANDS = re.findall(r"^\.venv/bin/(deviceops safety .*)$", SECTION, re.MULTILINE)
POLICY = re.findall(r"^```json\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)[0]


def test_what_is_shown_runs(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "house.json").write_text(POLICY)
    (tmp_path / "photo.png").write_bytes(saved(painting(96, 64)))
    assert len(COMMANDS) == 6
    for line in COMMANDS:
        done = command(server, tmp_path, line)
        assert done.returncode == 0, (line, done.stderr)


def test_verdicts_are_told_to_people_and_programs(
    server: RunningServer, tmp_path: Path
) -> None:
    policy = {
        "policyId": "strict",
        "promptWords": ["bad"],
        "rules": [{"category": "words", "action": "SAFETY_ACTION_BLOCK"}],
    }
    (tmp_path / "strict.json").write_text(json.dumps(policy))
    (tmp_path / "a.png").write_bytes(saved(painting(96, 64)))

    def run(words: str) -> tuple[int, str, str]:
        done = command(server, tmp_path, f"deviceops safety {words}")
        return done.returncode, done.stdout, done.stderr

    assert run("policies create strict.json")[1] == "strict is stored as version 1.\n"
    code, out, err = run("check a.png --prompt 'a BAD cat' --prompt 'a cat' --policy strict")
    told = (out + err).splitlines()
    assert code == 0
    scores = r"nsfw 0\.\d{3}(, (drawing|hentai|porn|sexy) [01]\.\d{3}){4}"
    assert any(re.fullmatch(f"a.png: allow by strict version 1; {scores}", x) for x in told)
    assert "prompt 1: block by strict version 1; words 1.000 (flagged from 0.5)" in told
    assert "prompt 2: allow by strict version 1; words 0.000" in told
    code, out, _ = run("check --prompt bad --policy strict --json")
    last = json.loads(out.splitlines()[-1])
    assert last["verdicts"][0]["action"] == "SAFETY_ACTION_BLOCK"
    shown = json.loads(run("policies show strict")[1])
    (tmp_path / "strict.json").write_text(json.dumps(shown | {"description": "Mine."}))
    code, out, _ = run("policies update strict.json --version 1")
    assert out == "strict has version 2 now.\n"
    assert "Mine." in run("policies list")[1]
    code, _, err = run("policies update strict.json --version 1")
    assert (code, "STATE_CONFLICT" in err) == (1, True)
    assert run("policies delete strict") == (0, "strict is deleted.\n", "")
    assert run("policies show strict")[0] == 4
    (tmp_path / "strict.json").write_text("{]")
    code, _, err = run("policies create strict.json")
    assert (code, "is no policy" in err) == (2, True)
    code, _, err = run("check gone.png")
    assert (code, "cannot be read" in err) == (2, True)
