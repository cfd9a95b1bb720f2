"""Fetching a model from a hub, by huggingface_hub; nothing else here imports it.

The library reads its own variables: HF_ENDPOINT, HF_TOKEN, HF_HOME and proxies.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from server.cli.choices import UnusableOptions
from server.cli.failures import CallFailed, CallFailure
from server.cli.model_files import PICKLES, needed
from server.cli.wording import printable, size

_SPARE_BYTES = 64 << 20
_GO_ON = "What is here stays: the same command goes on with it."


@dataclass(frozen=True)
class HubFile:
    """A file of a repository; large ones have a SHA-256, others their git object's id."""

    name: str
    size_bytes: int
    sha256: str
    git_id: str

    def fits(self, path: Path) -> bool:
        """Whether these are its bytes."""
        if path.stat().st_size != self.size_bytes:
            return False
        if self.sha256:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        data = path.read_bytes()
        whole = b"blob %d\0" % len(data) + data
        return hashlib.sha1(whole, usedforsecurity=False).hexdigest() == self.git_id


class Repository:
    """A repository at one commit.

    Args:
        repo_id: `organisation/name`.
        revision: A branch, tag or commit; None for the main branch.

    Raises:
        CallFailed: huggingface_hub is not installed, or the hub did not answer or refused.
    """

    def __init__(self, repo_id: str, revision: str | None) -> None:
        self._repo_id = repo_id
        with _explained(repo_id):
            from huggingface_hub import HfApi

            found = HfApi().model_info(repo_id, revision=revision, files_metadata=True)
        self.commit = str(found.sha)
        self._files = {
            one.rfilename: HubFile(
                one.rfilename,
                one.size or 0,
                one.lfs.sha256 if one.lfs else "",
                one.blob_id or "",
            )
            for one in found.siblings or ()
        }
        from huggingface_hub import constants

        self.folder = (
            Path(constants.HF_HOME) / "deviceops" / repo_id.replace("/", "--") / self.commit
        )

    def choose(self, file: str | None, *, pickles: bool) -> list[HubFile]:
        """What is to be fetched: the file that was named, or what a model needs.

        Raises:
            UnusableOptions: There is no such file, or no model.
            CallFailed: The hub did not answer.
        """
        names = [file] if file else needed(self._files, self._small, pickles=pickles)
        for name in names:
            if name not in self._files:
                raise UnusableOptions(f"{self._repo_id} has no file {name!r}")
            if name.lower().endswith(PICKLES) and not pickles:
                raise UnusableOptions(
                    f"{name} is a pickle, which can hold code; --allow-pickles fetches it all "
                    "the same, and it has to be converted before it is used"
                )
        return [self._files[name] for name in names]

    def fetch(self, files: list[HubFile]) -> Mapping[str, Path]:
        """Have these files here, whole and verified; what was begun before goes on.

        Raises:
            CallFailed: There is no room for them, the hub did not answer or refused, or a
                file is not what the hub says it is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [file for file in files if not (self.folder / file.name).exists()]
        wanted = sum(file.size_bytes for file in missing)
        free = shutil.disk_usage(self.folder).free
        if wanted + _SPARE_BYTES > free:
            message = f"{size(wanted)} are missing here, and the disk has {size(free)} free."
            advice = "Free some space, or put HF_HOME on another disk."
            raise CallFailed(CallFailure(status="LOCAL", message=message, advice=advice))
        return {file.name: self._fetched(file) for file in files}

    def discard(self) -> None:
        """Delete what was fetched."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _small(self, name: str) -> bytes:
        return self._fetched(self._files[name]).read_bytes()

    def _fetched(self, file: HubFile) -> Path:
        path = self.folder / file.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            with _explained(self._repo_id):
                self._download(file, part)
            part.replace(path)
        if not file.fits(path):
            path.unlink()
            message = (
                f"{file.name} is not what {self._repo_id} says it is; it was deleted here."
            )
            advice = "Try again; if it stays so, the hub or what lies between is at fault."
            raise CallFailed(CallFailure(status="LOCAL", message=message, advice=advice))
        return path

    def _download(self, file: HubFile, part: Path) -> None:
        """Add what is missing to what is there; the library's own way begins anew each time."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        url = hf_hub_url(self._repo_id, file.name, revision=self.commit)
        headers = build_hf_headers()
        location = get_hf_file_metadata(url, headers=headers).location
        if urlsplit(location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # the token is the hub's business alone
        with part.open("ab") as target:
            if target.tell() > file.size_bytes:
                target.truncate(0)
            http_get(
                location,
                target,
                resume_size=target.tell(),
                headers=headers,
                expected_size=file.size_bytes,
                displayed_filename=file.name,
            )


@contextlib.contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """What the library raises, in words that say what to do."""
    try:
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise _failed(
            "huggingface_hub is not installed here.", "Install it: pip install huggingface_hub"
        ) from error
    shown = printable(repo_id)
    endpoint = constants.ENDPOINT
    try:
        yield
    except errors.GatedRepoError as error:
        raise _failed(
            f"{shown} is given only to those who accepted its terms.",
            f"Accept them at {endpoint}/{shown}, then set HF_TOKEN to a token of that account.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise _failed(
            f"{endpoint} has no repository {shown}, or does not show it without a token.",
            "Look at the name; for a private one set HF_TOKEN.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise _failed(f"{shown} has no such revision.", "Look at --revision.") from error
    except errors.HFValidationError as error:
        raise UnusableOptions(f"{shown} is no repository's name: organisation/name") from error
    except errors.HfHubHTTPError as error:
        raise _failed(f"{endpoint} refused: {_first_line(error)}", "") from error
    except (errors.LocalEntryNotFoundError, ConnectionError) as error:
        raise _unreachable(endpoint, error) from error
    except OSError as error:
        raise _failed(f"The download failed: {error.strerror or error}", _GO_ON) from error
    except Exception as error:
        # The library's versions speak HTTP by different ones, whose errors come through.
        if not type(error).__module__.startswith(("httpx", "requests")):
            raise
        raise _unreachable(endpoint, error) from error


def _unreachable(endpoint: str, error: Exception) -> CallFailed:
    return _failed(
        f"{endpoint} does not answer: {_first_line(error)}",
        f"Look at the network, or name another hub with HF_ENDPOINT. {_GO_ON}",
    )


def _first_line(error: Any) -> str:
    return printable((str(error).splitlines() or [type(error).__name__])[0])


def _failed(message: str, advice: str) -> CallFailed:
    return CallFailed(CallFailure(status="LOCAL", message=message, advice=advice))
