"""What was found as pictures for archives that draw nothing else: Secondary Capture Images (PS3.3 A.8.1).

One picture per analysed view, all in one series: findings with box, outline and score burned in, the outcome of the
study below. RGB, because every viewer shows it and amber is told from tissue where white is not. No name of the patient
is in the pixels; the header has it.
"""

from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicomnode.attributes import text
from dicomnode.images import SourceImage
from dicomnode.images.mammography import Laterality, read_laterality, read_patient_orientation
from dicomnode.reading.findings import AnalysedImage, StudyAnalysis
from dicomnode.reading.pictures import PLAIN, WARNING, Picture, outcome_of, render, render_words, words_of
from dicomnode.results import codes
from dicomnode.results.content import code_item
from dicomnode.results.identity import NOT_FOR_CLINICAL_USE, carry_lossiness, patient_and_study, run_uid, stamp
from dicomnode.results.tracking import TrackedFinding, analysed_names, source_role
from dicomnode.results.wording import verdict

SERIES_NUMBER = 8005
SIZE_PX = 1200  # longer side of a view: what a report's reader wants, an eighth of a mammogram's pixels
MOST_VIEWS = 16  # beyond it is a stack of slices, of which only those with findings are worth a picture
MOST_REMARKS = 8


def build_captures(study: StudyAnalysis, source: Dataset, findings: Sequence[TrackedFinding]) -> Iterator[Dataset]:
    """The pictures of a run, one page of words where there is none. source: header that the patient is copied from."""
    outcome, remarks = _words(study)
    views = _views(study)
    for number, (view, name) in enumerate(views, start=1):
        header = view.source.header
        own = [finding for finding in findings if finding.image is view]
        drawn = [(finding.detection, f"{finding.number}: {words_of(finding.detection)}") for finding in own]
        below = [outcome_of(name, len(drawn)), *((words, PLAIN) for words in (f"Study: {outcome}", *remarks))]
        picture = render(view.source, drawn, below, SIZE_PX)
        dataset = _capture(study, header, f"sc/{source_role(view.source)}", number, picture)
        dataset.PatientOrientation = list(read_patient_orientation(header) or ())  # the view keeps its way up
        _say_side(dataset, read_laterality(header))
        dataset.DerivationDescription = f"View with candidate findings drawn in, scaled. {NOT_FOR_CLINICAL_USE}"
        dataset.SourceImageSequence = [_source(view.source)]
        carry_lossiness(header, dataset)
        yield dataset
    if not views:
        headline = outcome, WARNING if study.failure else PLAIN
        page = _capture(study, source, "sc", 1, render_words(headline, remarks, SIZE_PX))
        page.PatientOrientation = []
        _say_side(page, None)
        page.DerivationDescription = f"Outcome of the study in words. {NOT_FOR_CLINICAL_USE}"
        yield page


def _views(study: StudyAnalysis) -> list[tuple[AnalysedImage, str]]:
    views = list(zip(study.analysed, analysed_names(study), strict=True))
    return views if len(views) <= MOST_VIEWS else [(view, name) for view, name in views if view.detections]


def _words(study: StudyAnalysis) -> tuple[str, list[str]]:
    """The outcome, and what the reader must know; the end of a long list is in the report."""
    outcome = verdict(study)
    remarks = [remark for remark in outcome.remarks if remark != NOT_FOR_CLINICAL_USE]  # the caption
    more = len(remarks) - MOST_REMARKS
    if more > 0:
        remarks[MOST_REMARKS:] = [f"{more} more remarks are in the report."]
    return outcome.sentence, remarks


def _capture(study: StudyAnalysis, header: Dataset, role: str, number: int, picture: Picture) -> Dataset:
    dataset = patient_and_study(header)
    stamp(dataset, study, SecondaryCaptureImageStorage, role)
    dataset.Modality = "OT"  # as highdicom and most tools write; with MG a node would analyse its own pictures
    dataset.SeriesInstanceUID = run_uid(study.run, "series", "sc")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.InstanceNumber = number
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.BurnedInAnnotation = "YES"
    _put_pixels(dataset, picture)
    return dataset


def _say_side(dataset: Dataset, laterality: Laterality | None) -> None:
    """Of the image where it is known; else the series says that it is not (type 2C, C.7.3.1)."""
    if laterality is None:
        dataset.Laterality = ""
    else:
        dataset.ImageLaterality = laterality


def _source(source: SourceImage) -> Dataset:
    header = source.header
    item = Dataset()
    item.ReferencedSOPClassUID = text(header, "SOPClassUID")
    item.ReferencedSOPInstanceUID = text(header, "SOPInstanceUID")
    if source.frame is not None:
        item.ReferencedFrameNumber = source.frame
    item.PurposeOfReferenceCodeSequence = [code_item(codes.SOURCE_OF_PROCESSING)]
    return item


def _put_pixels(dataset: Dataset, picture: Picture) -> None:
    """Image Pixel (C.7.6.3). picture: blue, green, red."""
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = picture.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    pixels = picture[..., ::-1].tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)  # an even number of bytes (PS3.5 8.1.1)
