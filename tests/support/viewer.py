"""A person at OHIF: opens a study, opens a series of it, and looks. What is seen are pixels of a screenshot."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.waiting import wait_until

Picture = NDArray[np.uint8]
WAIT_MS = 60_000
ARGUMENTS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
NO_TOUR = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where OHIF fits an image into its viewport: centred, as large as it goes. scale: of the screen to the image."""

    scale: float
    left: float
    top: float

    @classmethod
    def of(cls, rows: int, columns: int, picture: Picture) -> "Placement":
        """Of an image of that size in a viewport of the picture's size."""
        height, width = picture.shape[:2]
        scale = min(height / rows, width / columns)
        return cls(scale, (width - columns * scale) / 2, (height - rows * scale) / 2)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[int, int, int, int]:
        """A box of the image on the screen, in whole pixels."""
        corners = (self.left + x0 * self.scale, self.top + y0 * self.scale)
        opposite = (self.left + x1 * self.scale, self.top + y1 * self.scale)
        left, top, right, bottom = (round(value) for value in (*corners, *opposite))
        return left, top, right, bottom

    def plane(self, plane: NDArray[np.float32], picture: Picture) -> NDArray[np.float32]:
        """An image of one channel as it should be seen in the picture."""
        shift = 0.5 * self.scale - 0.5  # from pixel centres to outer corners
        matrix = np.array([[self.scale, 0, self.left + shift], [0, self.scale, self.top + shift]])
        smooth = cv2.blur(plane, (max(int(1 / self.scale), 1),) * 2)  # what lies between the samples counts too
        seen: NDArray[np.float32] = cv2.warpAffine(smooth, matrix, (picture.shape[1], picture.shape[0]))
        return seen

    def error_px(self, plane: NDArray[np.float32], picture: Picture) -> float:
        """How far, in screen pixels, what is seen is from where it should be; infinite for another image."""
        expected, seen = self.plane(plane, picture), picture.mean(axis=2).astype(np.float32) / 255
        window = cv2.createHanningWindow(expected.shape[::-1], cv2.CV_32F)
        shift, certainty = cv2.phaseCorrelate(expected, seen, window)
        return float(np.hypot(*shift)) if certainty > 0.3 else float("inf")


def amber(picture: Picture) -> NDArray[np.bool_]:
    """Where the colour of findings is laid over grey; nothing of OHIF's own is amber."""
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return (red - blue > 30) & (green - blue > 15) & (red >= green)


def measured(picture: Picture) -> NDArray[np.bool_]:
    """Where OHIF draws what a report measured: in pure green the one that is chosen, in pure yellow the others."""
    seen: NDArray[np.bool_] = (picture[..., 1] > 150) & (picture[..., 2] < 60)
    return seen


def is_shown(plane: NDArray[np.float32], picture: Picture) -> bool:
    """Whether the picture shows this image at its place, to a screen pixel."""
    return Placement.of(*plane.shape, picture).error_px(plane, picture) < 1


class Viewer:
    """One page with one study."""

    def __init__(self, page: Page, study_address: str) -> None:
        self._page = page
        page.add_init_script(NO_TOUR)
        page.set_default_timeout(WAIT_MS)
        page.goto(study_address)
        page.locator("canvas.cornerstone-canvas").first.wait_for()

    def open(self, words: str) -> None:
        """Double-click the series in the list whose entry has these words."""
        self._page.get_by_text(words).first.dblclick()

    def agree(self, question: str) -> None:
        """Answer Yes when asked."""
        self._page.get_by_text(question).wait_for()
        self._page.get_by_text("Yes", exact=True).click()
        self._page.get_by_text(question).wait_for(state="hidden")

    def scroll_down(self) -> None:
        """The next image of the series."""
        self._page.keyboard.press("ArrowDown")

    def resize(self) -> None:
        """Make the window a little smaller; OHIF 3.12 now and then waits for this before it draws a report."""
        size = self._page.viewport_size
        assert size is not None, "a window without a size"
        self._page.set_viewport_size({"width": size["width"], "height": size["height"] - 2})

    def says(self, words: str) -> None:
        """Wait until the words stand on the page."""
        self._page.get_by_text(words).first.wait_for()

    def has_broken_down(self) -> bool:
        """Whether OHIF gave up on an error, which it says instead of showing anything."""
        return self._page.get_by_text("Something went wrong").count() > 0

    def look(self) -> Picture:
        """The viewport as it is now, red, green, blue."""
        canvas = self._page.locator("canvas.cornerstone-canvas").first
        # None for a moment while OHIF makes the canvas anew for the series that it opens.
        area = wait_until(canvas.bounding_box, "OHIF shows an image", 30.0, every_s=0.3)
        return _decode(self._page.screenshot(clip=area))

    def look_at(self, plane: NDArray[np.float32]) -> tuple[Picture, Placement]:
        """The viewport once it shows this image at its place, to a screen pixel, and has stopped changing."""
        before = [self.look()]

        def shown() -> bool:
            now = self.look()
            still = np.array_equal(now, before[-1])
            before.append(now)
            return still and is_shown(plane, now)

        wait_until(shown, f"OHIF shows the image of {plane.shape}", 30.0, every_s=0.3)
        return before[-1], Placement.of(*plane.shape, before[-1])

    def keep(self, path: Path) -> None:
        """The whole page as a PNG."""
        path.write_bytes(self._page.screenshot())


def _decode(png: bytes) -> Picture:
    picture = cv2.imdecode(np.frombuffer(BytesIO(png).getvalue(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.ascontiguousarray(picture[..., ::-1])


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window and without a GPU, in a profile of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
