"""One random training crop: geometry, grey values, and what the network should answer for it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.decode import STRIDE
from engines.preprocess import FILTERS, Filter
from engines.training.cache import CachedCases

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """Ranges of the random changes. crop_rows, crop_columns: input pixels, multiples of 32."""

    crop_rows: int = 384
    crop_columns: int = 288
    lesion_share: float = 0.5
    smallest_scale: float = 0.75
    largest_scale: float = 1.35
    stretch: float = 0.08
    rotation_deg: float = 25.0
    mirror_share: float = 0.2
    filter_share: float = 0.5
    cutout_share: float = 0.3


@dataclass(frozen=True, slots=True)
class Sample:
    """A crop and its targets at stride 8.

    planes: uint8 (rows, columns, 3). heat: (1, r, c) 0..1, 1 at centres; care: (1, r, c) 0 where the truth is cut off.
    sides: (4, r, c) distances in strides; weight: (1, r, c) of the box loss; malignant: (1, r, c); looks: its weight.
    boxes: (M, 4) in crop pixels, not clipped; signs: (M,) as CachedCases.malignant; outline: uint8 (rows, columns),
    1 on a mass where the case has outlines.
    """

    planes: NDArray[np.uint8]
    heat: Float
    care: Float
    sides: Float
    weight: Float
    malignant: Float
    looks: Float
    boxes: Float
    signs: NDArray[np.int8]
    outline: NDArray[np.uint8]


def draw(data: CachedCases, rng: np.random.Generator, settings: AugmentSettings) -> Sample:
    """A random crop of a random case; half of them on a lesion."""
    number = int(rng.integers(len(data)))
    name: Filter = "none" if rng.random() >= settings.filter_share else FILTERS[int(rng.integers(1, len(FILTERS)))]
    planes = np.asarray(data.planes[name][number])
    boxes, malignant = data.boxes[number], data.malignant[number]
    affine = _random_affine(planes[..., 0], boxes, rng, settings)
    size = (settings.crop_columns, settings.crop_rows)
    warp = between_centres(affine)
    crop = np.asarray(cv2.warpAffine(planes, warp, size, flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0)), np.uint8)
    moved = move_boxes(boxes, affine)
    crop = grey_values(crop, rng)
    if rng.random() < settings.cutout_share:
        _cut_out(crop, moved, rng)
    outlined = np.zeros(planes.shape[:2], np.uint8)
    for mask in data.outlines[number] if data.outlines else ():
        rows, columns = mask.pixels.shape
        outlined[mask.row0 : mask.row0 + rows, mask.column0 : mask.column0 + columns] |= mask.pixels
    outline = np.asarray(cv2.warpAffine(outlined, warp, size, flags=cv2.INTER_NEAREST), np.uint8)
    return _targets(crop, moved, malignant, outline)


def _random_affine(
    plain: NDArray[np.uint8], boxes: Float, rng: np.random.Generator, settings: AugmentSettings
) -> NDArray[np.float64]:
    """A 2 x 3 matrix from input pixels to crop pixels, on edges like boxes (pixel i covers i..i+1)."""
    rows, columns = settings.crop_rows, settings.crop_columns
    scale = float(np.exp(rng.uniform(np.log(settings.smallest_scale), np.log(settings.largest_scale))))
    if len(boxes) and rng.random() < settings.lesion_share:
        box = boxes[int(rng.integers(len(boxes)))]
        centre = (box[:2] + box[2:]) / 2
        shift = rng.uniform(-0.4, 0.4, 2) * (columns, rows)
    else:
        ys, xs = np.nonzero(plain[::8, ::8])
        pick = int(rng.integers(len(ys))) if len(ys) else 0
        centre = np.array([xs[pick], ys[pick]]) * 8.0 if len(ys) else np.array(plain.shape[::-1]) / 2.0
        shift = rng.uniform(-0.25, 0.25, 2) * (columns, rows)
    angle = np.deg2rad(rng.uniform(-settings.rotation_deg, settings.rotation_deg))
    stretch = np.exp(rng.uniform(-settings.stretch, settings.stretch) * np.array([0.5, -0.5]))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * stretch
    turn[0] *= -1.0 if rng.random() < settings.mirror_share else 1.0
    turn[1] *= -1.0 if rng.random() < 0.5 else 1.0  # noqa: PLR2004 - upside down as often as not
    place = np.array([columns, rows]) / 2 + shift - turn @ centre
    return np.concatenate([turn, place[:, None]], axis=1)


def between_centres(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same mapping for OpenCV, to which pixel i lies at i, not at i + 0.5; without it a mirror is a pixel off."""
    offset = affine[:, 2] + affine[:, :2] @ (0.5, 0.5) - 0.5
    return np.concatenate([affine[:, :2], offset[:, None]], axis=1)


def move_boxes(boxes: Float, affine: NDArray[np.float64]) -> Float:
    """Boxes around the turned ellipses of the old ones, float32 (N, 4): corners would grow too much."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ affine[:, :2].T + affine[:, 2]
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = np.sqrt(half**2 @ (affine[:, :2] ** 2).T)
    return np.concatenate([centres - reach, centres + reach], axis=1).astype(np.float32)


def grey_values(crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Another film, scanner and exposure: grey curves, lost resolution, grain; black outside of the breast stays."""
    outside = crop.max(axis=2) == 0
    tables = _grey_curves(rng)
    crop = np.stack([cv2.LUT(np.ascontiguousarray(crop[..., plane]), tables[:, plane]) for plane in range(3)], axis=-1)
    if rng.random() < 0.3:  # noqa: PLR2004 - share of blurred crops
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.6)), np.uint8)
    if rng.random() < 0.2:  # noqa: PLR2004 - share of crops from a coarser scanner
        crop = _coarser(crop, float(rng.uniform(0.5, 0.9)))
    if rng.random() < 0.5:  # noqa: PLR2004 - share of grainy crops
        crop = np.clip(crop + _grain(crop.shape[:2], rng)[..., None], 0, 255).astype(np.uint8)
    crop[outside] = 0
    return crop


def _grey_curves(rng: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 (256, 3): gamma, a bent film curve, contrast and brightness, one look-up table per plane."""
    ramp = np.linspace(0.0, 1.0, 256)
    tables = np.empty((256, 3), np.float32)
    knots = np.sort(rng.uniform(0.0, 1.0, 3)) * 0.4 + np.array([0.25, 0.5, 0.75]) * 0.6
    bent = np.interp(ramp, [0.0, 0.25, 0.5, 0.75, 1.0], [0.0, *knots, 1.0])
    bends = rng.random() < 0.4  # noqa: PLR2004 - share of bent curves
    for plane in range(3):
        curve = ramp
        if plane < 2:  # noqa: PLR2004 - local contrast has its own middle
            curve = (bent if bends else ramp) ** np.exp(rng.uniform(-0.45, 0.45))
        gain, lift = np.exp(rng.uniform(-0.25, 0.25)), rng.uniform(-0.08, 0.08)
        tables[:, plane] = (curve - 0.5) * gain + 0.5 + lift
    return np.clip(tables * 255, 0, 255).astype(np.uint8)


def _coarser(crop: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    rows, columns = crop.shape[:2]
    small = cv2.resize(crop, (round(columns * scale), round(rows * scale)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)


def _grain(shape: tuple[int, ...], rng: np.random.Generator) -> Float:
    """Noise of a standard deviation of 2 to 10 grey levels, as fine as a pixel or as coarse as film grain."""
    noise = rng.standard_normal(shape, np.float32)
    if rng.random() < 0.5:  # noqa: PLR2004 - coarse as often as fine
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 1.5)), np.float32)
        noise /= max(float(noise.std()), 1e-6)
    return np.asarray(noise * rng.uniform(2, 10), np.float32)


def _cut_out(crop: NDArray[np.uint8], boxes: Float, rng: np.random.Generator) -> None:
    """Grey patches that hide tissue, never a lesion's centre."""
    rows, columns = crop.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        height, width = rng.integers(16, 64, 2)
        y, x = int(rng.integers(0, rows - height)), int(rng.integers(0, columns - width))
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        hides = ((centres > (x - 8, y - 8)) & (centres < (x + width + 8, y + height + 8))).all(axis=1).any()
        if not hides:
            crop[y : y + height, x : x + width] = int(rng.integers(0, 160))


def _targets(crop: NDArray[np.uint8], boxes: Float, malignant: NDArray[np.int8], outline: NDArray[np.uint8]) -> Sample:
    rows, columns = crop.shape[0] // STRIDE, crop.shape[1] // STRIDE
    heat, weight, looks, answer = (np.zeros((rows, columns), np.float32) for _ in range(4))
    care = np.ones((rows, columns), np.float32)
    sides = np.ones((4, rows, columns), np.float32)
    y, x = np.mgrid[:rows, :columns].astype(np.float32) + 0.5
    for (x0, y0, x1, y1), sign in zip(boxes / STRIDE, malignant, strict=True):
        centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
        if not (0 <= centre_x < columns and 0 <= centre_y < rows):
            care[(x > x0) & (x < x1) & (y > y0) & (y < y1)] = 0  # part of a mass without its centre: no opinion
            continue
        cell_x, cell_y = np.floor(centre_x) + 0.5, np.floor(centre_y) + 0.5
        spread_x, spread_y = max(0.7, (x1 - x0) / 6), max(0.7, (y1 - y0) / 6)
        bump = np.exp(-((x - cell_x) ** 2) / (2 * spread_x**2) - ((y - cell_y) ** 2) / (2 * spread_y**2))
        mine = (bump > 0.4) & (bump > weight) & (x > x0) & (x < x1) & (y > y0) & (y < y1)  # noqa: PLR2004 - the core
        heat = np.maximum(heat, bump)
        weight[mine] = bump[mine]
        distances = np.stack([x - x0, y - y0, x1 - x, y1 - y])
        sides[:, mine] = np.maximum(distances[:, mine], 0.1)
        looks[mine] = bump[mine] * (sign >= 0)
        answer[mine] = max(int(sign), 0)
    maps = (heat[None], care[None], sides, weight[None], answer[None], looks[None])
    return Sample(crop, *maps, boxes, malignant, outline)
