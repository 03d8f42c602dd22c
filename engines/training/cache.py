"""Preprocessed images on disk: each is preprocessed once per filter, then read as uint8 through a memory map."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.annotations import Case, load_case
from engines.base import Mask
from engines.breast import NoBreastError
from engines.errors import AnnotationError, DataError
from engines.outline import outline
from engines.preprocess import FILTERS, Filter, PreprocessSettings, prepare

SHOWN = 5  # faults of annotations that a message names


@dataclass(frozen=True, slots=True)
class CachedCases:
    """Cases that are ready for the network.

    planes: per filter uint8 (N, rows, columns, 3). boxes: per case float32 (M, 4) in input pixels.
    malignant: per case int8 (M,): 1, 0, or -1 where unknown. refused: images that cannot be read, or in which no breast
    was found.
    """

    cases: tuple[Case, ...]
    planes: dict[Filter, NDArray[np.uint8]]
    boxes: tuple[NDArray[np.float32], ...]
    malignant: tuple[NDArray[np.int8], ...]
    refused: tuple[str, ...]
    outlines: tuple[tuple[Mask, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.cases)


def cached(
    cases: Sequence[Case],
    settings: PreprocessSettings,
    folder: Path,
    tell: Callable[[str], None],
    filters: Sequence[Filter] = FILTERS,
) -> CachedCases:
    """The cases under every filter, from the folder where it has them already.

    Raises DataError where annotations contradict their images, once for all of them.
    """
    folder = folder / _key(cases, settings, filters)
    if not (folder / "index.json").is_file():
        _fill(cases, settings, folder, tell, filters)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    kept = [cases[number] for number in index["kept"]]
    return CachedCases(
        tuple(kept),
        {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in filters},
        tuple(np.array(boxes, np.float32).reshape(-1, 4) for boxes in index["boxes"]),
        tuple(np.array([_sign(lesion.malignant) for lesion in case.lesions], np.int8) for case in kept),
        tuple(index["refused"]),
    )


def with_outlines(data: CachedCases) -> CachedCases:
    """The same cases with an outline in every box: what masks are learned from, as no set has true ones."""
    outlines = []
    for plain, boxes in zip(data.planes["none"][..., 0], data.boxes, strict=True):
        rows, columns = plain.shape
        pixels = plain.astype(np.float32) / 255.0
        clipped = np.clip(boxes, 0, [columns - 1, rows - 1, columns, rows])
        outlines.append(tuple(outline(pixels, (float(a), float(b), float(c), float(d))) for a, b, c, d in clipped))
    return replace(data, outlines=tuple(outlines))


def _sign(malignant: bool | None) -> int:
    return -1 if malignant is None else int(malignant)


def _key(cases: Sequence[Case], settings: PreprocessSettings, filters: Sequence[Filter]) -> str:
    """Of all that the cache depends on: settings, files as they are now, and where their lesions lie."""
    files = [(case.image, case.image.stat()) for case in cases]
    facts = [
        asdict(replace(settings, filter="none")),
        list(filters),
        [(case.aspect, case.size, [lesion.box for lesion in case.lesions]) for case in cases],
        [(str(file), found.st_size, found.st_mtime_ns) for file, found in files],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _fill(
    cases: Sequence[Case],
    settings: PreprocessSettings,
    folder: Path,
    tell: Callable[[str], None],
    filters: Sequence[Filter],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(cases), settings.rows, settings.columns, 3)
    maps = {name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape) for name in filters}
    kept: list[int] = []
    boxes: list[list[list[float]]] = []
    refused: list[str] = []
    wrong: list[str] = []
    for number, case in enumerate(cases):
        try:
            image, in_file = load_case(case)
            for name in filters:
                prepared = prepare(image, replace(settings, filter=name))
                maps[name][len(kept)] = prepared.planes
        except AnnotationError as error:
            wrong.append(str(error))
            continue
        except (DataError, NoBreastError) as error:
            tell(f"left out: {case.image.name}: {error}")
            refused.append(f"{case.image.name}: {error}")
            continue
        kept.append(number)
        boxes.append(prepared.way_back.boxes_to_input(in_file).tolist())
        if number % 100 == 0:
            tell(f"preprocessed {number} of {len(cases)} images")
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise AnnotationError(f"{'; '.join(wrong[:SHOWN])}{more}")
    index = {"kept": kept, "boxes": boxes, "refused": refused}
    partial = folder / "index.part"
    partial.write_text(json.dumps(index), encoding="utf-8")
    partial.replace(folder / "index.json")
