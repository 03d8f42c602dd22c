"""Pictures for people: the right things drawn at the right place."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dicomnode.reading.pictures import FOUND, KNOWN, PLAIN, draw_view, render
from tests.dicomnode.results.samples import COLUMNS, ROWS, box_detection, digital_header, disc_detection, source_image

SIZE = 600  # twice the source


def drawn(*args: object, **more: object) -> NDArray[np.uint8]:
    """The PNG, read back."""
    png = draw_view(source_image(digital_header()), *args, size_px=SIZE, **more)
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def extent(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels of a colour within the view."""
    rows, columns = np.nonzero((picture[:SIZE] == colour).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_the_view_is_scaled_and_has_a_caption() -> None:
    """The longer side has the size asked for, and a strip with words lies below."""
    picture = drawn([])
    view_columns = COLUMNS * SIZE // ROWS
    assert picture.shape[0] > SIZE
    assert (picture[:SIZE, :view_columns] == 127).all()
    assert (picture[SIZE:] > 200).any()


def test_a_known_lesion_is_drawn_at_its_place() -> None:
    """Its box, in its own colour, to within the line's width."""
    picture = drawn([], known=[(50.0, 100.0, 90.0, 160.0)])
    assert np.allclose(extent(picture, KNOWN), (100, 200, 180, 320), atol=1)
    assert not (picture[:SIZE] == FOUND).all(axis=2).any()


def test_a_finding_has_box_outline_and_score() -> None:
    """The outline is a circle inside the box, and the score stands outside it."""
    detection = disc_detection(column=100, row=150, radius=30)
    picture = drawn([detection])
    amber = (picture[:SIZE] == FOUND).all(axis=2)
    inside = np.argwhere(amber[246:354, 146:254]) - 54.0  # within the box, from its centre
    assert np.abs(np.hypot(*inside.T) - 59).max() < 4
    assert amber[240, 140:260].mean() > 0.9
    words = picture[200:238, 140:260].astype(int)  # anti-aliased, so not exactly amber
    assert (words[..., 2] - words[..., 0] > 100).any()


def test_pixels_that_are_not_square_are_drawn_as_they_are() -> None:
    """A breast is not squeezed, and a finding lies where it lies in the breast."""
    header = digital_header()
    header.ImagerPixelSpacing = [0.1, 0.3]  # three times as wide as high: 30 mm by 60 mm
    found = disc_detection(column=100, row=150, radius=30)
    picture = render(source_image(header), [(found, "")], [], SIZE)
    assert (picture[: SIZE // 2] == 127).all(axis=2).any(axis=0).sum() == SIZE
    left, top, right, bottom = extent(picture, FOUND)
    assert np.allclose((left, top, right, bottom), (210, 120, 390, 180), atol=1)


def test_a_finding_at_the_edge_stays_in_the_picture() -> None:
    """Labels move inside and nothing raises."""
    picture = drawn([box_detection((150.0, 0.0, 200.0, 20.0)), box_detection((0.0, 290.0, 10.0, 300.0))])
    assert (picture == FOUND).all(axis=2).any()


def test_an_image_that_was_not_analysed_is_not_called_negative() -> None:
    """Its strip says other words than that of an image without findings; the view and the caption are the same."""
    negative, unjudged = drawn([]), drawn([], analysed=False)
    assert (negative[:SIZE] == unjudged[:SIZE]).all()
    assert negative.shape == unjudged.shape
    assert (negative[SIZE:] != unjudged[SIZE:]).any()


def test_remarks_are_wrapped_into_the_strip() -> None:
    """A long sentence takes more lines of the same width, and none of it is lost."""
    image = source_image(digital_header())
    plain = render(image, [], [], SIZE)
    remarked = render(image, [], [("This sentence is much too long for a narrow view. " * 4, PLAIN)], SIZE)
    assert remarked.shape[1] == plain.shape[1]
    step = (remarked.shape[0] - plain.shape[0]) // 6
    assert remarked.shape[0] - plain.shape[0] > 4 * 10
    assert (remarked[-step - 8 :] == plain[-step - 8 :]).all()  # the caption stays the last line
