"""The worker's job of a chain: its file, its progress, where it stops, what stays loaded."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from PIL import Image
from safetensors.torch import save_file

from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.backends.work import process
from domains.chain.jobs import ChainJob
from domains.chain.types import SharpenStep, Step, UpscalerModel, UpscaleStep
from domains.errors import Cancelled, NotFound
from domains.picture.types import PreparedPicture
from domains.session.jobs import EncodedImage
from domains.session.types import Phase, PhaseStarted, Piece, PieceFinished
from domains.values import ImageFileFormat, ModelPlace, OutputSettings
from tests.domains.chain.backends.upscaling.files import CPU, small_compact
from tests.domains.chain.pictures import noise


@dataclass
class Context:
    """Keeps what is told, and stops the work once so many pieces are done."""

    stop_after: int = 10**6
    told: list[object] = field(default_factory=list)

    def emit(self, event: object) -> None:
        self.told.append(event)

    def check_stop(self) -> None:
        if len(self.of(PieceFinished)) >= self.stop_after:
            raise Cancelled("enough")

    def of(self, kind: type) -> list:  # type: ignore[type-arg]
        return [each for each in self.told if isinstance(each, kind)]


def model(folder: Path, name: str = "a", seed_factor: int = 2) -> UpscalerModel:
    path = folder / f"{name}.safetensors"
    save_file(small_compact(seed_factor), path)
    return UpscalerModel(name, ModelPlace.of(path), seed_factor)


def job(
    folder: Path, steps: tuple[Step, ...], size: tuple[int, int], **output: object
) -> ChainJob:
    canvas = noise(24, 20, alpha=True)
    data = canvas.whole().tobytes()
    path = folder / "picture"
    path.write_bytes(data)
    picture = PreparedPicture(path, 24, 20, hashlib.sha256(data).hexdigest(), alpha=True)
    return ChainJob(picture, steps, *size, OutputSettings(**output))  # type: ignore[arg-type]


def test_the_file_is_what_the_job_accepts_and_the_phases_are_told(tmp_path: Path) -> None:
    context, shelf = Context(), UpscalerShelf(CPU)
    steps = (UpscaleStep(factor=2, tile_pixels=16, model=model(tmp_path)), SharpenStep())
    work = job(tmp_path, steps, (48, 40))

    report = process(work, shelf, context)

    [encoded] = context.of(EncodedImage)
    assert (encoded.width, encoded.height, encoded.seed) == (48, 40, None)
    assert Image.open(io.BytesIO(encoded.data)).mode == "RGBA"
    assert [each.phase for each in context.of(PhaseStarted)] == [
        Phase.POSTPROCESSING,
        Phase.LOADING_MODEL,
        Phase.POSTPROCESSING,
        Phase.ENCODING_IMAGE,
    ]
    done = [each for each in context.of(PieceFinished) if each.piece is Piece.STEP]
    assert [(each.done, each.total) for each in done] == [(1, 2), (2, 2)]
    assert min(report.load, report.postprocess, report.encode_image) >= 0
    assert work.model is not None
    assert work.model.model_id == "a"


def test_after_a_network_is_read_the_phase_is_the_chains_again(tmp_path: Path) -> None:
    context, shelf = Context(), UpscalerShelf(CPU)
    steps = (
        SharpenStep(),
        *(UpscaleStep(factor=2, model=model(tmp_path, name)) for name in ("a", "b", "a")),
    )

    process(job(tmp_path, steps, (192, 160)), shelf, context)

    told = [each for each in context.told if isinstance(each, PhaseStarted | PieceFinished)]
    begun = [
        (each.phase, each.image_index, each.kept_steps)
        for each in told
        if isinstance(each, PhaseStarted)
    ]
    reading, chain = (Phase.LOADING_MODEL, None, 0), (Phase.POSTPROCESSING, 0)
    assert begun == [
        (*chain, 0),
        *(reading, (*chain, 1)),
        *(reading, (*chain, 2)),  # the last one's is there already
        (Phase.ENCODING_IMAGE, 0, 0),
    ]
    phase = None
    for each in told:
        if isinstance(each, PhaseStarted):
            phase = each.phase
        else:
            assert phase is Phase.POSTPROCESSING, each


@pytest.mark.parametrize("stop_after", [1, 3])
def test_it_stops_between_tiles_without_a_file(stop_after: int, tmp_path: Path) -> None:
    context = Context(stop_after)
    steps = (UpscaleStep(factor=2, tile_pixels=16, model=model(tmp_path)),)

    with pytest.raises(Cancelled):
        process(job(tmp_path, steps, (48, 40)), UpscalerShelf(CPU), context)

    assert len(context.of(PieceFinished)) == stop_after
    assert not context.of(EncodedImage)


def test_an_upscaler_that_the_catalogue_names_anew_is_kept_by_its_new_name(
    tmp_path: Path,
) -> None:
    context, shelf = Context(), UpscalerShelf(CPU)
    before = model(tmp_path)
    for named in (before, structs.replace(before, model_id="anew")):
        process(job(tmp_path, (UpscaleStep(factor=2, model=named),), (48, 40)), shelf, context)

    assert [part.model_id for part in shelf.components()] == ["anew"]
    assert [each.phase for each in context.of(PhaseStarted)].count(Phase.LOADING_MODEL) == 1


def test_a_jpeg_shows_white_where_a_picture_is_transparent(tmp_path: Path) -> None:
    context = Context()
    work = job(tmp_path, (), (24, 20), format=ImageFileFormat.JPEG, quality=100)

    process(work, UpscalerShelf(CPU), context)

    canvas = noise(24, 20, alpha=True)
    white = Image.new("RGB", canvas.size, "white")
    white.paste(canvas.image(), mask=canvas.image().getchannel("A"))
    made = Image.open(io.BytesIO(context.of(EncodedImage)[0].data))
    apart = np.asarray(made).astype(int) - np.asarray(white).astype(int)
    assert np.abs(apart).mean() < 3


def test_upscalers_stay_until_others_come_or_their_file_changes(tmp_path: Path) -> None:
    shelf, loads = UpscalerShelf(CPU), []

    def get(which: UpscalerModel, exact: bool = False) -> object:
        return shelf.get(
            which, exact, loading=lambda: loads.append(which.model_id), check_stop=lambda: None
        )

    one, two, three = (model(tmp_path, name) for name in ("a", "b", "c"))
    first = get(one)
    assert get(one) is first
    get(two)
    assert get(one) is first
    get(three)  # the one used least recently goes
    assert loads == ["a", "b", "c"]
    assert {each.model_id for each in shelf.components()} == {"a", "c"}
    assert all(each.size.value for each in shelf.components())

    changed = model(tmp_path, "a", 4)
    assert get(changed) is not first
    assert loads == ["a", "b", "c", "a"]
    assert [each.model_id for each in shelf.let_go(("a",))] == ["a"]
    assert [each.model_id for each in shelf.let_go()] == ["c"]
    assert shelf.components() == ()
    one.place.path.unlink()
    with pytest.raises(NotFound):
        get(one)


def test_what_is_stopped_while_it_is_read_leaves_nothing(tmp_path: Path) -> None:
    shelf = UpscalerShelf(CPU)

    def stop() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        shelf.get(model(tmp_path), False, loading=lambda: None, check_stop=stop)
    assert shelf.components() == ()
