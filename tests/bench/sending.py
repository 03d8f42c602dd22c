"""The sender of the benchmark: prebuilt messages, each waits for its response."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage, DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from tests.support import studies
from tests.support.raw_association import RawAssociation

HEAD_BYTES = 4096  # holds every UID of a message
MARK_INSTANCE, MARK_STUDY = "2.25." + "1" * 39, "2.25." + "2" * 39
_numbers = itertools.count(10**38 * 3)


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent in one round. rows, columns: of the 16-bit image that makes the size."""

    sop_class_uid: str
    instances: int
    associations: int
    rows: int
    columns: int


def ct(instances: int, associations: int) -> Load:
    """Slices of half a megabyte."""
    return Load(CTImageStorage, instances, associations, 512, 512)


def mammograms(instances: int, associations: int) -> Load:
    """Images of 17 MB."""
    return Load(DigitalMammographyXRayImageStorageForPresentation, instances, associations, 3328, 2560)


@cache
def template_of(load: Load) -> bytes:
    """The dataset of one instance, under UIDs that are replaced before it is sent."""
    if load.sop_class_uid == CTImageStorage:
        image = studies.ct_slices(1, load.rows, load.columns)[0]
    else:
        pixels = np.random.default_rng(2).integers(0, 4095, (load.rows, load.columns), dtype=np.uint16)
        image = studies.mammogram(MARK_STUDY, MARK_STUDY, pixels=pixels)
    image.SOPInstanceUID, image.StudyInstanceUID, image.SeriesInstanceUID = MARK_INSTANCE, MARK_STUDY, MARK_STUDY
    return _encoded(image)


def _encoded(image: Dataset) -> bytes:
    meta = image.file_meta
    del image.file_meta
    encoded = encode(image, is_implicit_vr=False, is_little_endian=True)
    image.file_meta = meta
    if encoded is None:
        raise RuntimeError("the benchmark's own instance could not be encoded")
    return encoded


def _new_uid() -> bytes:
    return f"2.25.{next(_numbers)}".encode()


def _messages(message: bytes, count: int) -> Iterator[tuple[bytes, memoryview]]:
    """The same message under new UIDs, in two parts: the head of its own, and the shared rest."""
    head, rest = message[:HEAD_BYTES], memoryview(message)[HEAD_BYTES:]
    head = head.replace(MARK_STUDY.encode(), _new_uid())
    for _ in range(count):
        yield head.replace(MARK_INSTANCE.encode(), _new_uid()), rest


def seconds_of(load: Load, port: int, called: str) -> float:
    """Time from the first request to the last response, all associations open before."""
    template = template_of(load)
    associations = [
        RawAssociation.open(port, load.sop_class_uid, ExplicitVRLittleEndian, calling="STORESCU", called=called)
        for _ in range(load.associations)
    ]
    each = load.instances // load.associations
    prepared = [list(_messages(item.message(MARK_INSTANCE, template), each)) for item in associations]
    troubles: list[str] = []

    def send(association: RawAssociation, messages: list[tuple[bytes, memoryview]]) -> None:
        for message in messages:
            answer = association.exchange(message)
            if answer.status:
                troubles.append(f"0x{answer.status:04X} {answer.comment}")
                return

    threads = [threading.Thread(target=send, args=item) for item in zip(associations, prepared, strict=True)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    for association in associations:
        association.release()
        association.close()
    if troubles:
        raise RuntimeError(f"{called} answered {troubles[0]}")
    return seconds
