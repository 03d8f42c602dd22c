"""How fast the node takes instances, against DCMTK's storescp: prebuilt messages, each waits for its response.

The node is `dicomnode receive` as shipped: Success after the file and the row are durable. storescp writes without
waiting for the disk, so the ratio also holds what durability costs.
"""

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage, DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from tests.bench.table import Board
from tests.support import dcmtk, studies
from tests.support.node import Destination, NodeConfig, running_node
from tests.support.raw_association import RawAssociation

ROUNDS = 3
HEAD_BYTES = 4096  # holds every UID of a message
MARK_INSTANCE, MARK_STUDY = "2.25." + "1" * 39, "2.25." + "2" * 39
_numbers = itertools.count(10**38 * 3)

Receiver = Callable[[Path], AbstractContextManager[int]]


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent in one round. rows, columns: of the 16-bit image that makes the size."""

    name: str
    sop_class_uid: str
    instances: int
    associations: int
    rows: int
    columns: int


LOADS = (
    Load("ct_1", CTImageStorage, 1000, 1, 512, 512),
    Load("mg_1", DigitalMammographyXRayImageStorageForPresentation, 40, 1, 3328, 2560),
    Load("ct_4", CTImageStorage, 1000, 4, 512, 512),
)


def _template(load: Load) -> bytes:
    if load.name.startswith("ct"):
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


def _seconds(load: Load, template: bytes, port: int, called: str) -> float:
    """Time from the first request to the last response, all associations open before."""
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


@contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    with dcmtk.storescp(folder, options=("+B", "--fork")) as port:
        yield port


@contextmanager
def _node(folder: Path) -> Iterator[int]:
    config = NodeConfig(folder, Destination("NOWHERE", 1), quiet_s=3600.0)
    with running_node(config, role="receive") as node:
        yield node.port


def measure(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    """Put `receive_<load>` on the board, and the absolute rates of both."""
    absent = dcmtk.missing()
    contestants: dict[str, tuple[str, Receiver]] = {
        "dicomnode": ("DICOMNODE", _node),
        "storescp": ("STORESCP", _storescp),
    }
    for load in LOADS:
        if absent:
            board.leave_out(f"receive_{load.name}", absent)
            continue
        template = _template(load)
        best = dict.fromkeys(contestants, float("inf"))
        for _ in range(ROUNDS):
            for name, (called, receiver) in contestants.items():
                place = folder / f"{load.name}-{name}"
                with receiver(place) as port:
                    best[name] = min(best[name], _seconds(load, template, port, called))
                shutil.rmtree(place)
        rates = {name: load.instances / seconds for name, seconds in best.items()}
        say(f"{load.name}: " + ", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items()))
        board.put(
            f"receive_{load.name}",
            rates["dicomnode"] / rates["storescp"],
            f"rate against storescp +B: {load.instances} of {len(template) / 1e6:.1f} MB, {load.associations} assoc.",
        )
        for name, rate in rates.items():
            board.put(f"receive_{load.name}_{name}_per_s", rate, "instances a second, best of the rounds")
