"""What stands for a worker on another machine, without Ray: the actor is in this process."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from domains.chain.jobs import ChainJob
from domains.chain.types import LutStep, Table
from domains.codec import encode
from domains.errors import Reason
from domains.inference.jobs import ControlPictures, GenerationJob, SharedGenerationJob
from domains.picture.types import PreparedPicture
from domains.session.types import ImageResult
from domains.values import ModelPlace, OutputSettings
from server.worker.cluster import cargo, carrier, node_worker
from server.worker.cluster.carrier import Carrier
from server.worker.cluster.joining import FailedThere, NodeGone, answer_of
from server.worker.cluster.node_worker import NodeWorker
from server.worker.cluster.same_models import SameModels
from server.worker.link import frames
from server.worker.link.connection import Link, LinkPair, connect
from server.worker.link.exits import EXIT_CANNOT_START
from server.worker.link.start_record import StartRecord
from tests.server.worker.workers import scripted, work


class HereActor:
    """An actor that is called as another machine's would be, until its node is gone."""

    def __init__(self) -> None:
        self.worker = NodeWorker()
        self.gone = threading.Event()

    def call(self, method: str, *arguments: object, patience: float) -> Any:
        """See `joining.Actor`."""
        if self.gone.is_set():
            raise NodeGone("Its node does not answer.")
        try:
            return getattr(self.worker, method)(*arguments)
        except Exception as error:
            raise FailedThere(f"It failed there ({type(error).__name__}).") from error


def record_of(pair: LinkPair, spool: Path) -> StartRecord:
    """What a carrier of this process is started with."""
    return StartRecord(
        address=f"descriptor:{os.dup(pair.descriptors[0])}",
        key=pair.key,
        device_id="ray:node-a:cpu:0",
        torch_device="cpu",
        spool_dir=spool,
        log_level="info",
        parent_process_id=os.getpid(),
    )


class Front:
    """The front's end of a carrier."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.actor = HereActor()
        self._pair = LinkPair()
        self._threads = ThreadPoolExecutor(2)
        record = record_of(self._pair, spool)
        self.code: Future[int] = self._threads.submit(self._carry, record)
        self.link = self._pair.accept()
        self._pair.hand_over()
        hello = self.heard()
        assert isinstance(hello, frames.Hello)
        self.worker_id = hello.process_id

    def _carry(self, record: StartRecord) -> int:
        link: Link = connect(record.address, record.key)
        try:
            return Carrier(link, self.actor, record, "node-a").carry()  # type: ignore[arg-type]
        finally:
            link.close()

    def order(self, job: GenerationJob) -> None:
        """Have it draw."""
        self.link.send(encode(frames.RunOrder("session", 1, 60.0, frames.raw(job))))

    def heard(self) -> frames.FromWorker:
        """What it says next, beats left out."""
        while isinstance(frame := frames.decode_from_worker(self.link.receive()), frames.Beat):
            pass
        return frame

    def close(self) -> None:
        """End the worker, and with it the carrier."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.worker_id, signal.SIGKILL)
        self._threads.shutdown()
        self.link.close()
        self._pair.close()
        for thread in threading.enumerate():
            if thread.name in ("orders", "runs"):
                thread.join(20)
                assert not thread.is_alive()


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    monkeypatch.setattr(node_worker, "worker_command", scripted)
    monkeypatch.setattr(carrier, "leave", lambda code: None)  # not this process
    monkeypatch.setattr(node_worker.tempfile, "tempdir", str(tmp_path))
    front = Front(tmp_path / "here")
    yield front
    front.close()


def test_pictures_are_there_before_they_are_announced(front: Front) -> None:
    front.order(work())
    announced = 0
    while not isinstance(frame := front.heard(), frames.Done):
        if isinstance(frame, frames.Progress) and isinstance(frame.event, ImageResult):
            [file] = front.spool.glob(f"1-{frame.event.image_index}.*")
            assert hashlib.sha256(file.read_bytes()).hexdigest() == frame.event.artifact_id
            announced += 1
    assert announced == 2
    assert not list(front.spool.parent.glob("deviceops-*/spool/*"))  # nothing stays there


def test_it_ends_as_its_worker_ends(front: Front) -> None:
    os.kill(front.worker_id, signal.SIGKILL)
    assert front.code.result(20) == -signal.SIGKILL


def test_a_worker_that_cannot_be_started_there_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_worker, "worker_command", lambda: ["/no/such/interpreter"])
    monkeypatch.setattr(node_worker.tempfile, "tempdir", str(tmp_path))
    worker = NodeWorker()
    worker.start(
        StartRecord(
            address="there",
            key=bytes(32),
            device_id="ray:node-a:cpu:0",
            torch_device="cpu",
            spool_dir=tmp_path,
            log_level="info",
            parent_process_id=os.getpid(),
        ).to_bytes()
    )
    said, code = "", None
    deadline = time.monotonic() + 20
    while code is None and time.monotonic() < deadline:
        _, lines, code = worker.hear()
        said += "".join(lines)
    worker.send(b"an order")  # which nobody takes
    assert code == EXIT_CANNOT_START
    assert "ERROR a worker cannot be started" in said


def test_a_node_that_does_not_answer_is_gone(front: Front) -> None:
    front.actor.gone.set()
    with pytest.raises(NodeGone):
        front.code.result(20)


def test_a_model_that_is_another_there_fails_the_run(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's disk stands for both, so only where the other one looks is changed."""
    here, there = tmp_path / "model.safetensors", tmp_path / "elsewhere"
    here.write_bytes(b"weights")
    job = replace(work(), place=ModelPlace.of(here))
    worker = front.actor.worker
    for method in ("states", "begin_hashing"):
        original = getattr(worker, method)
        monkeypatch.setattr(
            worker, method, lambda paths, look=original: look([str(there) for _ in paths])
        )
    for content, words in (
        (None, "is not there"),
        (b"other weights", "has another size there"),
        (b"Weights", "has other content there"),
    ):
        if content is not None:
            there.write_bytes(content)
        front.order(job)
        while isinstance(failed := front.heard(), frames.Progress):
            assert failed.event is None
        assert isinstance(failed, frames.Failed)
        assert failed.failure.reason is Reason.MODEL_INCOMPLETE
        assert failed.failure.metadata == {"node": "node-a", "file": here.name}
        assert words in failed.failure.message
    there.write_bytes(b"weights")
    front.order(job)
    while not isinstance(said := front.heard(), frames.Done):
        assert isinstance(said, frames.Progress)


def test_a_run_whose_models_are_read_for_long_is_at_work(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would else be taken for one that hangs."""
    monkeypatch.setattr(carrier, "SIGN_SECONDS", 0.0)
    model = tmp_path / "model.safetensors"
    model.write_bytes(bytes(9 << 20))
    front.order(replace(work(), place=ModelPlace.of(model)))
    for _ in range(3):  # one after each piece that is read
        sign = front.heard()
        assert isinstance(sign, frames.Progress)
        assert (sign.session_id, sign.epoch, sign.event) == ("session", 1, None)
    while not isinstance(front.heard(), frames.Done):
        pass


def test_a_memory_order_waits_for_no_model_to_be_read(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would else be taken for one that is never answered."""
    read = threading.Event()
    monkeypatch.setattr(SameModels, "check", lambda *_: read.wait(20))
    front.order(work())
    front.link.send(encode(frames.MemoryOrder(1, frames.ReleaseCached())))
    try:
        assert isinstance(front.heard(), frames.MemoryAnswer)
    finally:
        read.set()
    while not isinstance(front.heard(), frames.Done):
        pass


def test_a_cancel_comes_after_its_run(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker hears of no run that it has not."""
    read = threading.Event()
    monkeypatch.setattr(SameModels, "check", lambda *_: read.wait(20))
    front.order(work("slowly"))
    front.link.send(encode(frames.Cancel("session")))
    read.set()
    while not isinstance(said := front.heard(), frames.Failed):
        assert isinstance(said, frames.Progress)
    assert said.failure.reason is Reason.CANCELLED_BY_CLIENT


def test_files_that_go_with_work_are_brought_and_forgotten(
    front: Front, tmp_path: Path
) -> None:
    path = tmp_path / "pixels"
    path.write_bytes(bytes(256 * 320 * 3))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    front.order(replace(work(), picture=PreparedPicture(path, 256, 320, digest)))
    while not isinstance(front.heard(), frames.Done):
        pass
    assert front.actor.call("keep_only", [digest], patience=1) == [digest]
    front.order(work())
    while not isinstance(front.heard(), frames.Done):
        pass
    assert front.actor.call("keep_only", [digest], patience=1) == []


def test_a_disk_that_is_full_there_fails_the_run_alone(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "pixels"
    path.write_bytes(bytes(256 * 320 * 3))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    job = replace(work(), picture=PreparedPicture(path, 256, 320, digest))
    with monkeypatch.context() as patch:
        patch.setattr(front.actor.worker, "put", full)
        front.order(job)
        failed = front.heard()
    assert isinstance(failed, frames.Failed)
    assert failed.failure.reason is Reason.DISK_FULL
    assert failed.failure.metadata == {"node": "node-a"}
    assert failed.failure.message.startswith("On node node-a: ")
    front.order(job)
    while not isinstance(front.heard(), frames.Done):
        pass


def test_a_worker_that_cannot_be_started_there_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    actor = HereActor()
    monkeypatch.setattr(actor.worker, "start", full)
    cluster = SimpleNamespace(actor=lambda *_: actor)
    monkeypatch.setattr(carrier, "joined", lambda _: contextlib.nullcontext(cluster))
    pair = LinkPair()
    record = record_of(pair, tmp_path)
    with ThreadPoolExecutor(1) as threads:
        code = threads.submit(
            lambda: carrier._carry(
                connect(record.address, record.key), record, "head", "node-a"
            )
        )
        link = pair.accept()
        pair.hand_over()
        said = frames.decode_from_worker(link.receive())
        assert code.result(20) == EXIT_CANNOT_START
    link.close()
    pair.close()
    assert isinstance(said, frames.CannotStart)
    assert said.failure.reason is Reason.DISK_FULL


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_an_error_of_a_node_is_not_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cluster: as Ray raises what a task has raised, and what has ended one."""
    import ray
    from ray.exceptions import ActorDiedError, RayTaskError

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raised: list[Exception] = [
        RayTaskError("put", "a traceback", full, "node", 1, "127.0.0.1").as_instanceof_cause(),
        ActorDiedError(),
    ]

    def get(*_: object, timeout: float) -> None:
        raise raised.pop(0)

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(FailedThere) as failed:
        answer_of(None, 1.0)
    assert failed.value.__cause__ is full
    with pytest.raises(NodeGone):
        answer_of(None, 1.0)


@pytest.mark.parametrize("chosen", [False, True])
def test_a_worker_has_as_many_threads_as_its_node_was_started_with(
    monkeypatch: pytest.MonkeyPatch, chosen: bool
) -> None:
    """Ray has its actors use one, unless somebody chose another number."""
    node = {"OMP_NUM_THREADS": "1"} if chosen else {}
    process = SimpleNamespace(environ=lambda: node)
    monkeypatch.setattr(node_worker.psutil, "Process", lambda _: process)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert ("OMP_NUM_THREADS" in node_worker._environment()) is chosen


def test_names_lead_nowhere_else(front: Front) -> None:
    for name in ("../x", "/etc/passwd", "a/b"):
        with pytest.raises(ValueError, match="not the name of a file"):
            front.actor.worker.put(name, b"")
        with pytest.raises(ValueError, match="not the name of a file"):
            front.actor.worker.take("files", name)


def test_a_table_of_colours_goes_with_its_step() -> None:
    table = Table(Path("/here/colours"), 2, True, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    job = replace(work(), steps=(LutStep(table=table),))

    assert cargo.pictures(job) == {"colours": Path("/here/colours")}
    moved = cargo.moved(job, lambda name: Path("/there") / name)
    assert cargo.pictures(moved) == {"colours": Path("/there/colours")}


def test_what_a_paused_chain_keeps_goes_with_it() -> None:
    given = PreparedPicture(Path("/here/a"), 8, 8, "a" * 64)
    job = ChainJob(given, (), 8, 8, OutputSettings(), paused_file=Path("/here/paused"))

    assert cargo.paused_files(job) == {"paused": Path("/here/paused")}
    assert cargo.kept_files(job) == {}
    for kept in ({"kept_steps": 1}, {"kept_tiles": 1}):
        going_on = replace(job, **kept)
        assert cargo.kept_files(going_on) == {"paused": Path("/here/paused")}
        moved = cargo.moved(going_on, lambda name: Path("/there") / name)
        assert cargo.paused_files(moved) == {"paused": Path("/there/paused")}


def test_every_file_of_a_model_counts(tmp_path: Path) -> None:
    """A difference in one that is left out would be found by nobody."""
    folder = tmp_path / "model"
    folder.mkdir()
    for number in range(1_001):
        (folder / f"{number}").touch()
    job = replace(work(), place=ModelPlace.of(folder))

    assert len(cargo.model_files(job)) == 1_001


def test_every_file_of_a_job_is_found_and_moved() -> None:
    def picture(letter: str) -> PreparedPicture:
        return PreparedPicture(Path(f"/here/{letter}"), 8, 8, letter * 64)

    plain = replace(work(), paused_file=Path("/here/paused-1"))
    full = replace(
        work(),
        picture=picture("a"),
        mask=picture("b"),
        controls=(ControlPictures((picture("c"),), picture("d")),),
        paused_file=Path("/here/paused-2"),
        kept_steps=3,
    )
    job = SharedGenerationJob((plain, full))

    assert cargo.pictures(job) == {x * 64: Path(f"/here/{x}") for x in "abcd"}
    assert cargo.paused_files(job).keys() == {"paused-1", "paused-2"}
    assert cargo.kept_files(job) == {"paused-2": Path("/here/paused-2")}
    moved = cargo.moved(job, lambda name: Path("/there") / name)
    assert set(cargo.pictures(moved).values()) == {Path("/there") / (x * 64) for x in "abcd"}
    assert set(cargo.paused_files(moved).values()) == {
        Path("/there/paused-1"),
        Path("/there/paused-2"),
    }
    assert cargo.moved(moved, lambda name: Path("/there") / name) == moved
