"""Write generated/ from protos/: Python always, C# where a .NET SDK is on PATH.

    python tools/generate.py            rewrite what differs, remove what is no longer made
    python tools/generate.py --check    change nothing; fail and name the stale files

Everything is generated into a temporary folder first, so that a failing generator leaves
generated/ as it was and a running program never finds a file missing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc_tools  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
THIRD_PARTY = ROOT / "third_party"
GENERATED = ROOT / "generated"
CSHARP_PROJECT = ROOT / "clients" / "csharp" / "DeviceOperations.Client"
CSHARP_FRAMEWORK = "net10.0"  # any will do: the code is the same for all

# A servicer need not have every method: the generated base answers UNIMPLEMENTED.
_SERVICER_STUBS = "generate_concrete_servicer_stubs"
_SERVICE = re.compile(r"^service \w+ \{", re.MULTILINE)


class GenerationFailed(Exception):
    """A generator refused; the message holds what it said."""


def generate_python(protos: Path, into: Path) -> None:
    """Messages, typed stubs and gRPC code of every proto.

    Only protos with a service get gRPC files: for the others these would be empty.

    Raises:
        GenerationFailed: A proto does not compile, or a plugin is not installed.
    """
    every = sorted(protos.rglob("*.proto"))
    services = [path for path in every if _SERVICE.search(path.read_text("utf-8"))]
    _protoc(protos, every, [f"--python_out={into}", f"--mypy_out={into}"])
    stubs = f"--mypy_grpc_out={_SERVICER_STUBS}:{into}"
    _protoc(protos, services, [f"--grpc_python_out={into}", stubs])


def generate_csharp(into: Path, dotnet: str) -> None:
    """The public contract's messages and clients, by Grpc.Tools inside the client project.

    Raises:
        GenerationFailed: A proto does not compile, or a package cannot be restored.
    """
    _run([dotnet, "restore", str(CSHARP_PROJECT)])
    _run(
        [
            dotnet,
            "msbuild",
            str(CSHARP_PROJECT),
            "-nologo",
            "-target:GenerateContract",
            f"-property:TargetFramework={CSHARP_FRAMEWORK}",
            f"-property:GenerateInto={into}/",
        ]
    )


def stale_files(fresh: Path, committed: Path) -> list[Path]:
    """Paths, relative to both folders, that are missing, different or left over."""
    names = {
        path.relative_to(folder)
        for folder in (fresh, committed)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(name for name in names if _bytes(fresh / name) != _bytes(committed / name))


def replace_stale(fresh: Path, committed: Path, stale: Sequence[Path]) -> None:
    """Make the stale files of `committed` what they are in `fresh`; removes left-overs."""
    for name in stale:
        target = committed / name
        if (fresh / name).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / name, target)
        else:
            target.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when generated/ is, or has become, what the protos say."""
    parser = argparse.ArgumentParser(description="Write generated/ from protos/.")
    parser.add_argument("--check", action="store_true", help="change nothing, report")
    check: bool = parser.parse_args(arguments).check
    dotnet = shutil.which("dotnet")
    stale_count = 0
    with tempfile.TemporaryDirectory(prefix="deviceops-generate-") as temporary:
        for language in ("python", "csharp"):
            fresh, committed = Path(temporary, language), GENERATED / language
            fresh.mkdir()
            try:
                if language == "python":
                    generate_python(PROTOS, fresh)
                elif dotnet is not None:
                    generate_csharp(fresh, dotnet)
                else:
                    print("generated/csharp: left as it is, no dotnet on PATH.")
                    continue
            except GenerationFailed as failure:
                print(f"generated/{language}: {failure}", file=sys.stderr)
                return 1
            stale = stale_files(fresh, committed)
            stale_count += len(stale)
            if not check:
                replace_stale(fresh, committed, stale)
            print(f"generated/{language}: {_outcome(len(stale), check)}")
            for name in stale:
                print(f"  generated/{language}/{name.as_posix()}")
    if check and stale_count:
        print("Run `make generate` and commit the result.", file=sys.stderr)
        return 1
    return 0


def _outcome(stale: int, check: bool) -> str:
    if stale == 0:
        return "up to date."
    return f"{stale} stale:" if check else f"{stale} rewritten:"


def _protoc(root: Path, protos: Sequence[Path], outputs: Sequence[str]) -> None:
    scripts = Path(sys.executable).parent
    plugins = [
        f"--plugin={name}={_script(scripts, name)}"
        for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    _run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            *(f"--proto_path={root}", f"--proto_path={THIRD_PARTY}"),
            f"--proto_path={well_known}",
            *plugins,
            *outputs,
            *(path.relative_to(root).as_posix() for path in protos),
        ]
    )


def _script(folder: Path, name: str) -> str:
    found = shutil.which(name, path=str(folder))
    if found is None:
        raise GenerationFailed(f"{name} is not installed beside this Python; run `make setup`.")
    return found


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise GenerationFailed(f"{Path(command[0]).name} failed ({done.returncode}):\n{said}")


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
