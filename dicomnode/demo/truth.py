"""Where the lesions of the demo's mammograms are known to be.

One patient, four views, from the Curated Breast Imaging Subset of DDSM: R. Sawyer-Lee, F. Gimenez, A. Hoogi and
D. Rubin, The Cancer Imaging Archive, 2016, https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY, CC BY 3.0; the boxes
around its outlines. For the demo's other patient nothing is known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownLesion:
    """A mass that radiologists outlined. box: x0, y0, x1, y1 in source pixels; pathology from biopsy."""

    box: tuple[float, float, float, float]
    pathology: str


_PREFIX = "1.3.6.1.4.1.9590.100.1.2."

KNOWN_LESIONS: Mapping[str, tuple[KnownLesion, ...]] = {
    _PREFIX + "172427409513581073114900125610018943186": (KnownLesion((2106, 1223, 2351, 1471), "benign"),),
    _PREFIX + "114269392110829998308443618624238999952": (KnownLesion((6, 2930, 125, 3078), "malignant"),),
    _PREFIX + "171038018611581051501834297711675580817": (KnownLesion((86, 3183, 321, 3413), "malignant"),),
    _PREFIX + "256813936312274640021069060311108482092": (KnownLesion((1641, 1958, 1894, 2238), "benign"),),
}
