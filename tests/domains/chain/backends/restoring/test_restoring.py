"""Faces found, aligned, redrawn and put back, on a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.finishing import Finishing
from domains.chain.backends.kept_chain import ChainProgress
from domains.chain.backends.restoring.aligning import Alignment
from domains.chain.backends.restoring.restorer import Restorer
from domains.chain.backends.restoring.restoring import restore
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.types import FaceRestoreStep, RestorerModel
from domains.errors import Cancelled, FailedPrecondition, NotFound, Reason, ResourceExhausted
from domains.picture.backends.carried.faces import find_faces
from domains.values import ModelPlace
from tests.domains.chain.backends.restoring.files import CPU, loaded, painting, saved
from tests.domains.chain.backends.test_work import Context
from tests.domains.chain.photograph import BOX, EYES, astronaut
from tests.domains.chain.pictures import counted, noise

SAME = Restorer(nn.Identity(), "same", CPU)
"""Gives every face back as it gets it."""
# Where the square around the face ends, from EYES and the mean face: about 3 times as wide.
OUTSIDE = (slice(255, 288), slice(0, 288))


def aligned(pixels: Pixels) -> Alignment:
    (face,) = find_faces(pixels, 0.5)
    found = Alignment.of_points(face.points[:4])
    assert found is not None
    return found


@pytest.mark.parametrize(("turned", "size"), [(0, 288), (25, 288), (-15, 144), (0, 1728)])
def test_a_face_is_cut_out_upright_whatever_its_size_and_angle(turned: int, size: int) -> None:
    """In the square its eyes lie where restorers expect them, to 4 % of its edge."""
    image = Image.fromarray(astronaut()).resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image.rotate(turned, Image.Resampling.BICUBIC))

    square = aligned(pixels).cut_out(pixels)

    assert square.shape == (512, 512, 3)
    (again,) = find_faces(square, 0.4)
    left, right = again.points[:2]
    assert left == pytest.approx((193, 240), abs=20)
    assert right == pytest.approx((319, 240), abs=20)


@pytest.mark.parametrize("turned", [0, 20])
def test_a_face_that_is_not_changed_comes_back_to_its_place(turned: int) -> None:
    """Cut out and put back twice resampled: half a pixel off would cost 4 levels and more."""
    pixels = np.asarray(Image.fromarray(astronaut()).rotate(turned, Image.Resampling.BICUBIC))

    back = restore(SAME, pixels, 1.0, 0.5)

    left, top, right, bottom = BOX
    one, other = (each[top:bottom, left:right].astype(int) for each in (pixels, back))
    assert not np.array_equal(one, other)
    assert np.abs(one - other).mean() < 1.5
    moved = np.roll(other, 1, 1)
    assert np.abs(one - moved).mean() > 3 * np.abs(one - other).mean()


def test_a_face_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    """A GFPGAN that paints every face in one colour."""
    pixels, (told, between) = astronaut(), counted()
    red = loaded(painting(1.0, 0.2, 0.0), tmp_path)

    painted = restore(red, pixels, 1.0, 0.5, between)

    assert told == [(1, 1)]
    for x, y in EYES:
        assert painted[y, x] == pytest.approx((255, 51, 0), abs=1)
    assert np.array_equal(painted[OUTSIDE], pixels[OUTSIDE])
    # It fades: no step of the square's border is left on the plain background above.
    change = np.abs(painted[:, 30].astype(int) - pixels[:, 30]).max(-1)
    assert np.abs(np.diff(change)).max() < 40


def test_strength_blends(tmp_path: Path) -> None:
    pixels = astronaut()
    red = loaded(painting(1.0, 0.2, 0.0), tmp_path)

    half = restore(red, pixels, 0.5, 0.5)

    x, y = EYES[0]
    mean = (pixels[y, x].astype(float) + np.array((255, 51, 0))) / 2
    assert half[y, x] == pytest.approx(mean, abs=1.5)
    assert np.array_equal(restore(red, pixels, 0.0, 0.5), pixels)


def test_a_picture_without_a_face_stays_as_it_is(tmp_path: Path) -> None:
    red, (told, between) = loaded(painting(1, 0, 0), tmp_path), counted()
    pixels = noise(90, 60).pixels

    assert np.array_equal(restore(red, pixels, 1.0, 0.5, between), pixels)
    assert np.array_equal(restore(red, astronaut(), 1.0, 0.999), astronaut())
    assert told == []


def test_a_cancel_takes_effect_between_faces() -> None:
    pixels = np.concatenate((astronaut(), astronaut()[:, ::-1]), 1)
    done: list[tuple[int, int]] = []

    def between(*how_far: int) -> None:
        done.append((how_far[0], how_far[1]))
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        restore(SAME, pixels, 1.0, 0.5, between)
    assert done == [(1, 2)]


def test_numbers_that_are_not_finite_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, faces: torch.Tensor) -> torch.Tensor:
            return faces * torch.nan

    with pytest.raises(FailedPrecondition) as caught:
        restore(Restorer(Broken(), "broken", CPU), astronaut(), 1.0, 0.5)
    assert caught.value.reason is Reason.NON_FINITE_OUTPUT


def test_memory_that_runs_out_is_told() -> None:
    class Hungry(nn.Module):
        def forward(self, faces: torch.Tensor) -> torch.Tensor:
            raise MemoryError

    with pytest.raises(ResourceExhausted) as caught:
        restore(Restorer(Hungry(), "hungry", CPU), astronaut(), 1.0, 0.5)
    assert caught.value.reason is Reason.HOST_OUT_OF_MEMORY


@pytest.mark.parametrize("points", [np.zeros((4, 2)), np.full((4, 2), 7.5)])
def test_points_that_are_one_align_nothing(points: np.ndarray) -> None:
    assert Alignment.of_points(points) is None


def test_the_step_keeps_alpha_and_its_network_stays_loaded(tmp_path: Path) -> None:
    context, shelf = Context(), UpscalerShelf(CPU)
    path = saved(painting(0, 1, 0), tmp_path)
    step = FaceRestoreStep(model=RestorerModel("faces", ModelPlace.of(path)))
    canvas = Canvas(astronaut(), noise(288, 288, alpha=True).alpha)
    finishing = Finishing(shelf, (step,), False, context)  # type: ignore[arg-type]

    first = finishing.finish(0, ChainProgress(canvas)).canvas
    loads = finishing.load_seconds
    second = finishing.finish(0, ChainProgress(canvas)).canvas

    assert canvas.alpha is not None
    assert first is not None
    assert second is not None
    assert np.array_equal(first.alpha, canvas.alpha)
    assert np.array_equal(first.pixels, second.pixels)
    assert first.pixels[EYES[0][1], EYES[0][0]] == pytest.approx((0, 255, 0), abs=1)
    assert finishing.load_seconds - loads < loads
    (component,) = shelf.components()
    assert (component.model_id, component.component) == ("faces", "face_restorer")
    assert shelf.let_go(["faces"]) == (component,)
    path.unlink()
    with pytest.raises(NotFound):
        finishing.finish(0, ChainProgress(canvas))
