"""Carried networks against TensorFlow Lite's own runtime, and what they see in pictures.

The safetensors files here hold what that runtime gave; `tools/carried_networks.py` wrote them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from domains.picture.backends.carried.faces import find_faces
from domains.picture.backends.carried.figure import figure
from domains.picture.backends.carried.network import carried
from domains.picture.backends.carried.people import people_mask
from tests.domains.chain.photograph import BOX, EYES, astronaut
from tests.domains.chain.pictures import noise
from tools.carried_networks import reference_input, thinned

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["faces", "people"])
def test_a_network_gives_what_its_makers_runtime_gives(name: str) -> None:
    """To a hundred-thousandth of the greatest number: both compute in float32."""
    network, wanted = carried(name), load_file(HERE / f"{name}.safetensors")
    given = network.run(reference_input(network.edge))

    assert len(given) == len(wanted)
    for at, numbers in enumerate(given):
        most = np.abs(wanted[str(at)]).max()
        assert most > 0.1
        assert np.abs(thinned(numbers) - wanted[str(at)]).max() <= 1e-5 * most


def test_a_face_is_found_once_with_its_points_in_place() -> None:
    (face,) = find_faces(astronaut(), 0.5)

    assert face.confidence > 0.85
    assert face.box == pytest.approx(BOX, abs=6)
    left_eye, right_eye, nose, mouth, left_ear, right_ear = face.points
    assert left_eye == pytest.approx(EYES[0], abs=4)
    assert right_eye == pytest.approx(EYES[1], abs=4)
    assert left_ear[0] < left_eye[0] < nose[0] < right_eye[0] < right_ear[0]
    assert left_eye[1] < nose[1] < mouth[1]


def test_faces_of_a_wide_picture_are_where_they_are_there() -> None:
    """Two faces side by side, one mirrored, in a picture that is no square."""
    photograph = astronaut()
    wide = np.concatenate((photograph, photograph[:, ::-1]), 1)

    faces = sorted(find_faces(wide, 0.5), key=lambda face: face.box[0])

    assert len(faces) == 2
    left, _top, right, _bottom = BOX
    assert faces[0].box == pytest.approx(BOX, abs=8)
    mirrored = (576 - right, BOX[1], 576 - left, BOX[3])
    assert faces[1].box == pytest.approx(mirrored, abs=8)


def test_the_least_confidence_decides() -> None:
    (face,) = find_faces(astronaut(), 0.5)
    assert len(find_faces(astronaut(), face.confidence - 1e-6)) == 1
    assert find_faces(astronaut(), 0.999) == ()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((300, 7, 3), np.uint8),
        noise(200, 150).pixels,
        astronaut()[200:],
        np.array(Image.linear_gradient("L").convert("RGB")),
    ],
    ids=["a pixel", "a strip", "noise", "a suit without its face", "a gradient"],
)
def test_no_face_where_there_is_none(pixels: np.ndarray) -> None:
    assert find_faces(pixels, 0.5) == ()


def test_people_are_told_from_what_is_behind_them() -> None:
    mask = people_mask(astronaut())

    assert mask.shape == (288, 288)
    left, top, right, bottom = BOX
    assert mask[top : bottom - 40, left + 20 : right - 20].min() > 230
    assert mask[:60, :40].max() < 25


@pytest.mark.parametrize(("width", "height"), [(1, 1), (90, 400), (400, 1)])
def test_a_mask_has_the_pictures_size(width: int, height: int) -> None:
    assert people_mask(noise(width, height).pixels).shape == (height, width)


def test_a_drawn_person_is_one() -> None:
    """It is what restoring faces is measured on."""
    assert [len(find_faces(figure(edge), 0.5)) for edge in (64, 512, 1000)] == [1, 1, 1]
    assert people_mask(figure(300))[150, 150] > 250
