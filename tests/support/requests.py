"""C-STORE requests: one over the wire, or without a network, as the wire would have handed it to the intake."""

import io

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from dicomnode.receiving.intake import Incoming, Intake, Taken
from tests.support.raw_association import Answer, raw_association


def encoded(dataset: Dataset) -> bytes:
    """The dataset as it travels in Explicit VR Little Endian, without file meta information."""
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def store_alone(port: int, image: Dataset) -> Answer:
    """Send one image over an association of its own."""
    bare = Dataset()
    bare.update(image)
    with raw_association(port, str(image.SOPClassUID), ExplicitVRLittleEndian) as peer:
        answer = peer.store(str(image.SOPInstanceUID), encoded(bare))
        peer.release()
    return answer


def incoming(dataset: Dataset, calling_ae_title: str = "PACS") -> Incoming:
    """The C-STORE request that announces the dataset."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", DigitalMammographyXRayImageStorageForPresentation)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.SourceApplicationEntityTitle = calling_ae_title
    preamble = io.BytesIO()
    head = Dataset()
    head.file_meta = meta
    dcmwrite(preamble, head, enforce_file_format=True)
    return Incoming(
        affected_sop_class_uid=str(meta.MediaStorageSOPClassUID),
        affected_sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        calling_ae_title=calling_ae_title,
        preamble=preamble.getvalue(),
    )


def take(intake: Intake, dataset: Dataset, data: bytes | None = None, calling_ae_title: str = "PACS") -> Taken:
    """Hand the dataset over in fragments, one of them empty. data: other bytes than its own. Raises RefusedInstance."""
    arrival = intake.begin(incoming(dataset, calling_ae_title))
    whole = memoryview(encoded(dataset) if data is None else data)
    for fragment in (whole[:0], whole[:100], whole[100:]):
        arrival.write([fragment])
    return arrival.finish()
