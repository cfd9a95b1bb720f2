"""Models on two machines: the same, or not, and not read anew for each run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from server.worker.cluster.cargo import ModelElsewhere
from server.worker.cluster.contents import Hashing, State, sha256_of, state_of
from server.worker.cluster.joining import NodeGone
from server.worker.cluster.node_worker import NodeWorker
from server.worker.cluster.same_models import SameModels


class Elsewhere:
    """Another machine's actor, which finds in `there` what this machine has in `here`."""

    def __init__(self, here: Path, there: Path) -> None:
        self._here, self._there = here, there
        self._worker = NodeWorker()
        self.hashed: list[str] = []

    def call(self, method: str, *arguments: Any, patience: float) -> Any:
        """See `joining.Actor`."""
        assert patience > 0
        if arguments:
            (paths,) = arguments
            at = [str(self._there / Path(path).relative_to(self._here)) for path in paths]
            if method == "begin_hashing":
                self.hashed += [Path(path).name for path in paths]
            arguments = (at,)
        return getattr(self._worker, method)(*arguments)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The same model twice."""
    both = tmp_path / "here", tmp_path / "there"
    for folder in both:
        folder.mkdir()
        (folder / "unet").write_bytes(b"a" * 5_000_000)
        (folder / "vae").write_bytes(b"b" * 100)
    return both


@pytest.fixture
def elsewhere(folders: tuple[Path, Path]) -> Elsewhere:
    return Elsewhere(*folders)


def files_of(folder: Path) -> dict[str, State]:
    found = {str(path): state_of(str(path)) for path in sorted(folder.iterdir())}
    return {path: state for path, state in found.items() if state is not None}


def check(same: SameModels, folder: Path, signs: list[int] | None = None) -> None:
    same.check(files_of(folder), lambda: (signs if signs is not None else []).append(1))


def test_files_are_read_once_while_nobody_changes_them(
    folders: tuple[Path, Path], elsewhere: Elsewhere
) -> None:
    here, there = folders
    same, signs = SameModels(elsewhere, "node-a"), list[int]()  # type: ignore[arg-type]
    check(same, here, signs)
    assert len(signs) >= 3  # after each piece of each file
    check(same, here)
    assert elsewhere.hashed == ["unet", "vae"]
    (there / "vae").write_bytes(b"b" * 100)  # written again with the same content
    check(same, here)
    assert elsewhere.hashed == ["unet", "vae", "vae"]


@pytest.mark.parametrize("changed", ["here", "there"])
def test_other_content_of_the_same_size_is_noticed_whenever_it_comes(
    folders: tuple[Path, Path], elsewhere: Elsewhere, changed: str
) -> None:
    here, there = folders
    same = SameModels(elsewhere, "node-a")  # type: ignore[arg-type]
    check(same, here)
    folder = here if changed == "here" else there
    (folder / "vae").write_bytes(b"c" * 100)
    for _ in range(2):  # and again: what differs is never taken for known
        with pytest.raises(ModelElsewhere, match="has other content there") as refused:
            check(same, here)
        assert refused.value.metadata == {"node": "node-a", "file": "vae"}
    (folder / "vae").write_bytes(b"b" * 100)
    check(same, here)


def test_what_is_gone_or_larger_is_noticed_without_reading(
    folders: tuple[Path, Path], elsewhere: Elsewhere
) -> None:
    here, there = folders
    same = SameModels(elsewhere, "node-a")  # type: ignore[arg-type]
    (there / "vae").write_bytes(b"b" * 101)
    with pytest.raises(ModelElsewhere, match="has another size there"):
        check(same, here)
    (there / "vae").unlink()
    with pytest.raises(ModelElsewhere, match="is not there"):
        check(same, here)
    assert not elsewhere.hashed


def test_what_cannot_be_read_there_is_said(
    folders: tuple[Path, Path], elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes between the look at it and its reading."""
    here, there = folders
    begin = NodeWorker.begin_hashing

    def gone(worker: NodeWorker, paths: list[str]) -> None:
        (there / "unet").unlink()
        begin(worker, paths)

    monkeypatch.setattr(NodeWorker, "begin_hashing", gone)
    same = SameModels(elsewhere, "node-a")  # type: ignore[arg-type]
    with pytest.raises(ModelElsewhere, match="cannot be read there"):
        check(same, here)


def test_a_node_that_goes_meanwhile_is_gone(folders: tuple[Path, Path]) -> None:
    class Dying(Elsewhere):
        def call(self, method: str, *arguments: Any, patience: float) -> Any:
            if method == "hashed":
                raise NodeGone("Its node does not answer.")
            return super().call(method, *arguments, patience=patience)

    same = SameModels(Dying(*folders), "node-a")  # type: ignore[arg-type]
    with pytest.raises(NodeGone):
        check(same, folders[0])


def test_only_what_was_wanted_last_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wanted the files before has given up on them."""
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first, second):
        path.write_bytes(b"content")
    hashing, reading, go_on = Hashing(), threading.Event(), threading.Event()
    assert hashing.found() is None
    pieces: list[str] = []

    def slow(path: str, after: Any) -> str:
        if Path(path).parent != tmp_path:  # what another test has left at work
            return ""
        pieces.append(path)
        reading.set()
        assert go_on.wait(20)
        return sha256_of(path, after)

    monkeypatch.setattr("server.worker.cluster.contents.sha256_of", slow)
    hashing.begin([str(first)])
    assert reading.wait(20)
    assert hashing.found() is None
    hashing.begin([str(second)])
    go_on.set()
    while (found := hashing.found()) is None:
        pass
    assert found == [sha256_of(str(second), lambda: None)]
    assert pieces == [str(first), str(second)]


def _states(paths: Sequence[Path]) -> list[State | None]:
    return [state_of(str(path)) for path in paths]


def test_a_file_that_is_replaced_has_another_state(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"one")
    other.write_bytes(b"two")
    before = state_of(str(path))
    other.rename(path)
    assert state_of(str(path)) != before
    assert _states([tmp_path / "none"]) == [None]
