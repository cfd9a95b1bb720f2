"""Discovery through probe processes: a driver that crashes or hangs costs its kind only."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from domains.device.backends import cpu
from domains.device.backends.answers import MAX_LINE_BYTES, Answer, decode
from domains.device.types import Adapter, DeviceKind, Discovery, ProbeOutcome

_KINDS = tuple(kind for kind in DeviceKind if kind is not DeviceKind.CPU)
# The probe's interpreter may not have this project installed, so it is shown the way.
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from domains.device.backends.probe import main; main(sys.argv[2:])"
)
_PROJECT = Path(__file__).resolve().parents[3]
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)


class ProbeProcesses:
    """Runs one process for each interpreter, and another one after each failure.

    Args:
        interpreters: Python by kind; kinds not named use the server's own.
        timeout: Seconds for one kind's answer, the import of torch included.
    """

    def __init__(
        self, interpreters: Mapping[DeviceKind, Path] | None = None, *, timeout: float = 60.0
    ) -> None:
        self._interpreters = dict(interpreters or {})
        self._timeout = timeout

    def processor(self) -> Adapter:
        """The processor, without asking any driver."""
        return cpu.find(torch_is_elsewhere=DeviceKind.CPU in self._interpreters)

    async def discover(self) -> Discovery:
        """Find every adapter; failures become explanations."""
        groups: dict[Path, list[DeviceKind]] = {}
        for kind in _KINDS:
            python = self._interpreters.get(kind, Path(sys.executable))
            groups.setdefault(python, []).append(kind)
        async with asyncio.TaskGroup() as tasks:
            looks = [
                tasks.create_task(self._look(python, kinds)) for python, kinds in groups.items()
            ]
        answers = [answer for look in looks for answer in look.result()]
        answers.sort(key=lambda answer: _KINDS.index(answer.kind))
        processor = self.processor()
        return Discovery(
            (processor, *(adapter for answer in answers for adapter in answer.adapters)),
            (
                ProbeOutcome(DeviceKind.CPU, 1),
                *(ProbeOutcome(a.kind, len(a.adapters), a.explanation) for a in answers),
            ),
        )

    async def _look(self, python: Path, kinds: Sequence[DeviceKind]) -> list[Answer]:
        """An answer for every kind, with as many processes as that takes."""
        answers: list[Answer] = []
        while len(answers) < len(kinds):
            remaining = kinds[len(answers) :]
            failure = await self._run(python, remaining, answers)
            if failure and len(answers) < len(kinds):
                answers.append(Answer(kinds[len(answers)], (), failure))
        return answers

    async def _run(
        self, python: Path, kinds: Sequence[DeviceKind], answers: list[Answer]
    ) -> str:
        """Add the answers of one process; why it gave no more, if it did not give all."""
        lifetime = self._timeout * len(kinds) + 5
        try:
            process = await asyncio.create_subprocess_exec(
                python,
                *("-P", "-c", _START, str(_PROJECT), str(lifetime)),
                *(kind.value for kind in kinds),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                limit=MAX_LINE_BYTES,
                creationflags=_NO_WINDOW,
            )
        except OSError as error:
            return f"its interpreter cannot be started: {error.strerror}"
        try:
            return await self._read(process, kinds, answers)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _read(
        self,
        process: asyncio.subprocess.Process,
        kinds: Sequence[DeviceKind],
        answers: list[Answer],
    ) -> str:
        assert process.stdout is not None
        for kind in kinds:
            try:
                async with asyncio.timeout(self._timeout):
                    line = await process.stdout.readline()
                    if not line:
                        return _how_it_ended(await process.wait())
                answers.append(decode(line, kind))
            except TimeoutError:
                return f"its driver did not answer within {self._timeout:g} seconds"
            except ValueError:
                return "its probe gave an answer that cannot be read"
        return ""


def _how_it_ended(status: int) -> str:
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"its driver ended the probe ({name})"
    # Windows reports a crash as a large positive number.
    return f"its driver ended the probe (code {status:#x})"
