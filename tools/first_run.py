"""`make run`: start a server, draw a first picture through its contract, keep serving.

    python tools/first_run.py [--output FOLDER] [options of `deviceops serve`]

The picture is drawn by the ordinary command line, as any client would. Ctrl-C drains the
server and ends with 0; pressed again, it cuts the drain short.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from server import config, portfile

PROMPT = "a red apple on a blue background"
START_SECONDS = 60.0
_POLL_SECONDS = 0.1
_CANCELLED = 130

_GUIDE = """
Serving at {address}. The access token is in {token}

  {deviceops} generate "a robot on a teal background"

  {grpcurl} -plaintext -H "authorization: Bearer $(cat '{token}')" \\
    {address} deviceops.v1.DeviceService/ListDevices

  // C#, with the library in clients/csharp
  using var channel = GrpcChannel.ForAddress("http://{address}");
  var headers = new Metadata {{ {{ "authorization", "Bearer " + token }} }};
  var devices = await new DeviceService.DeviceServiceClient(channel)
      .ListDevicesAsync(new ListDevicesRequest(), headers);

Ctrl-C stops the server after running work has ended.
"""


class NotStarted(Exception):
    """The server ended or did not answer in time; `code` is what to exit with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until the server has ended.

    Returns:
        The server's exit code; 1 when that is 0 but the picture was not drawn.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for pictures")
    for option in ("--config", "--data-dir", "--runtime-dir"):
        parser.add_argument(option, type=Path)
    chosen, others = parser.parse_known_args(arguments)
    flags = {name: getattr(chosen, name) for name in ("config", "data_dir", "runtime_dir")}
    settings = config.load(**flags)
    passed_on = [
        f"--{name.replace('_', '-')}={value}" for name, value in flags.items() if value
    ]
    command = [sys.executable, "-m", "server", *passed_on, *others]
    with (
        _foreground(),
        subprocess.Popen(command, start_new_session=True) as server,
        _signals_passed_on(server),
    ):
        try:
            location = _started(server, settings)
        except NotStarted as failure:
            print(failure, file=sys.stderr)
            server.terminate()
            server.wait()
            return failure.code
        drawn = _draw(location, settings, chosen.output)
        if server.poll() is None:
            print(_guide(location, settings), flush=True)
        return server.wait() or (0 if drawn else 1)


def _started(
    server: subprocess.Popen[bytes], settings: config.Settings
) -> portfile.ServerLocation:
    """Where the server answers; it writes that down once its health says so."""
    for _ in range(round(START_SECONDS / _POLL_SECONDS)):
        location = portfile.read(settings.runtime_dir)
        if location is not None and location.pid == server.pid:
            return location
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = server.wait(_POLL_SECONDS)
            raise NotStarted(code or 1, f"The server ended before it answered ({code}).")
    raise NotStarted(1, f"The server did not answer within {START_SECONDS:.0f} seconds.")


def _draw(location: portfile.ServerLocation, settings: config.Settings, output: Path) -> bool:
    """Draw the first picture with the command line; False when that failed."""
    if location.tls:
        print("The server uses TLS: draw with `deviceops --tls-ca FILE generate`.")
        return True
    drawing = [sys.executable, "-m", "server.cli", "--server", location.address]
    if location.auth:
        drawing += ["--token-file", str(settings.token_path)]
    drawing += ["generate", PROMPT, "--output", str(output)]
    print(f"Drawing {PROMPT!r} into {output}{os.sep} ...", flush=True)
    code = subprocess.run(drawing, check=False).returncode
    return code in (0, _CANCELLED)


def _guide(location: portfile.ServerLocation, settings: config.Settings) -> str:
    tools = Path(sys.executable).parent
    grpcurl = tools / "grpcurl"
    return _GUIDE.format(
        address=location.address,
        token=settings.token_path,
        deviceops=_shortest(tools / "deviceops"),
        grpcurl=_shortest(grpcurl) if grpcurl.exists() else "grpcurl",
    )


def _shortest(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@contextlib.contextmanager
def _signals_passed_on(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """Each signal reaches the server once: it is in a session of its own, which the
    terminal does not reach, because a second Ctrl-C means something else to it.
    """

    def pass_on(number: int, _: FrameType | None) -> None:
        server.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _foreground() -> Iterator[None]:
    """Be the terminal's foreground group, so that Ctrl-C ends this and not `make` above,
    which would report a failure where there is none.
    """
    if not sys.stdin.isatty() or os.getpgrp() == os.getpid():
        yield
        return
    terminal, above = sys.stdin.fileno(), os.getpgrp()
    # Taking the terminal from the background stops the taker unless it ignores this.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, above)
        signal.signal(signal.SIGTTOU, before)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except config.ConfigError as error:
        sys.exit(f"Error: {error}")
