"""Measures of whether a heatmap lies on the object: its region, its box, or its mosaic cell."""

from typing import Any, Optional, Sequence, Tuple

import numpy as np
import torch

from ...errors import InvalidInputError


def pointing_game(
    heatmaps: torch.Tensor,
    regions: torch.Tensor,
    tolerance: int = 0,
    known: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Test whether the maximum of each heatmap lies in the region.

    Zhang et al., arXiv 1608.00507, section 4.2, which uses a tolerance of 15 pixels. Of several
    equal maxima, the first in reading order counts.

    Args:
        heatmaps: (B, H, W), larger for more important pixels.
        regions: (B, H, W) bool.
        tolerance: Largest Euclidean distance from the region that still counts as a hit, in pixels.
        known: Pixels known to lie inside or outside of the region, (B, H, W) bool; other pixels
            are ignored. By default all pixels are known.

    Returns:
        (B,) bool; False for a constant heatmap.

    Raises:
        InvalidInputError: If the shapes differ, a region is empty, or has unknown pixels.
    """
    _check_regions(heatmaps, regions, known)
    if heatmaps.dim() != 3:
        raise InvalidInputError(f"heatmaps must be (B, H, W), not {tuple(heatmaps.shape)}.")
    width = heatmaps.shape[2]
    ends = (heatmaps, heatmaps)
    if known is not None:
        ends = (heatmaps.masked_fill(~known, -torch.inf), heatmaps.masked_fill(~known, torch.inf))
    places, highest = ends[0].flatten(1).argmax(1), ends[0].flatten(1).amax(1)
    lowest = ends[1].flatten(1).amin(1)
    rows, columns = places // width, places % width
    y = torch.arange(heatmaps.shape[1], device=heatmaps.device)[None, :, None]
    x = torch.arange(width, device=heatmaps.device)[None, None]
    distance = (y - rows[:, None, None]).square() + (x - columns[:, None, None]).square()
    hit = ((distance <= tolerance**2) & regions).flatten(1).any(1)
    return hit & (highest > lowest)


def energy_in_region(
    heatmaps: torch.Tensor, regions: torch.Tensor, known: Optional[torch.Tensor] = None
) -> torch.Tensor:
    """Return the share of each heatmap's energy in the region, over the region's share of the area.

    The energy is the sum of the positive values. 1 is the value of chance. For clips, the area
    includes time. Wang et al. (Score-CAM), arXiv 1910.01279, section 4.2, report the share of the
    energy without dividing it.

    Args:
        heatmaps: (B, H, W), or (B, T, H, W) of clips.
        regions: bool, of the same shape.
        known: Pixels known to lie inside or outside of the region, bool, of the same shape; other
            pixels count neither as energy nor as area. By default all pixels are known.

    Returns:
        (B,); NaN for a heatmap without a positive value.

    Raises:
        InvalidInputError: If the shapes differ, a region is empty, or has unknown pixels.
    """
    _check_regions(heatmaps, regions, known)
    inside = regions.cpu()
    counted = torch.ones_like(inside) if known is None else known.cpu()
    # Not every device has double.
    positive = heatmaps.detach().cpu().double().clamp(min=0) * counted
    share = (positive * inside).flatten(1).sum(1) / positive.flatten(1).sum(1)
    area = inside.flatten(1).sum(1) / counted.flatten(1).sum(1).double()
    return (share / area).to(heatmaps)


def pixel_average_precision(
    maps: torch.Tensor, regions: torch.Tensor, known: Optional[torch.Tensor] = None
) -> torch.Tensor:
    """Return the average precision of each map's pixels as a ranking of the region's pixels.

    This is PxAP of Choe et al., arXiv 2007.04178, for each image; the paper pools the pixels of all
    images. Precision is the share of region pixels among the pixels with at least a given value;
    the score is its mean over the region's pixels. Equal pixels count together, so a constant map
    scores the region's share of the area, which is chance.

    Only the order of the pixels counts. Maps may be signed, and strictly increasing changes, such
    as a sharpening, do not change the score. Pass raw maps: in a map that is clipped at 0, the
    order of the clipped pixels is lost.

    Args:
        maps: (B, H, W), or (B, T, H, W) of clips; larger for more important pixels.
        regions: bool, of the same shape.
        known: Pixels known to lie inside or outside of the region, bool, of the same shape; other
            pixels are not ranked. By default all pixels are known.

    Returns:
        (B,) in (0, 1].

    Raises:
        InvalidInputError: If the shapes differ, a region is empty or has unknown pixels, or a map
            has NaN.
    """
    _check_regions(maps, regions, known)
    if bool(maps.isnan().any()):
        raise InvalidInputError("A map has NaN, which cannot be ranked; leave such maps out.")
    found = []
    for n, heatmap in enumerate(maps.detach()):
        counted = torch.ones_like(regions[n]) if known is None else known[n]
        values, order = heatmap[counted].sort(descending=True)
        hits = regions[n][counted][order].cumsum(0)
        last = torch.ones_like(values, dtype=torch.bool)  # the last of equal pixels
        last[:-1] = values[1:] != values[:-1]
        hits_so_far, ranked = hits[last], last.nonzero()[:, 0] + 1
        new = hits_so_far.diff(prepend=hits_so_far.new_zeros(1))
        found.append((new * hits_so_far / ranked).sum() / hits[-1])
    return torch.stack(found)


def mask_ious(
    heatmaps: torch.Tensor,
    regions: torch.Tensor,
    thresholds: Sequence[float],
    known: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Return the overlap of the pixels above each threshold with the region's pixels.

    Args:
        heatmaps: In [0, 1], (B, H, W), or (B, T, H, W) of clips.
        regions: bool, of the same shape.
        thresholds: T values in [0, 1].
        known: Pixels known to lie inside or outside of the region, bool, of the same shape; other
            pixels are not counted. By default all pixels are known.

    Returns:
        Intersection over union of ``heatmap >= threshold`` and region, float64 (B, T).

    Raises:
        InvalidInputError: If the shapes differ, a region is empty, or has unknown pixels.
    """
    _check_regions(heatmaps, regions, known)
    counted = torch.ones_like(regions) if known is None else known
    found = []
    for threshold in thresholds:
        marked = (heatmaps >= threshold) & counted
        both = (marked & regions).flatten(1).sum(1)
        found.append(both.cpu().double() / (marked | regions).flatten(1).sum(1).cpu())
    return torch.stack(found, 1)


def best_mask_iou(ious: torch.Tensor) -> float:
    """Return the mean IoU at the one threshold that is best for all images together.

    Args:
        ious: IoUs of :func:`mask_ious`, (B, T).
    """
    return float(ious.mean(0).max())


def _check_regions(
    heatmaps: torch.Tensor, regions: torch.Tensor, known: Optional[torch.Tensor]
) -> None:
    if heatmaps.dim() < 3 or heatmaps.shape != regions.shape or regions.dtype != torch.bool:
        raise InvalidInputError(
            "heatmaps and regions must have the shape (B, H, W), regions as bool; got "
            f"{tuple(heatmaps.shape)} and {tuple(regions.shape)}, {regions.dtype}."
        )
    if not bool(regions.flatten(1).any(1).all()):
        raise InvalidInputError("A region is empty; leave such images out.")
    if known is not None:
        if known.shape != regions.shape or known.dtype != torch.bool:
            raise InvalidInputError(
                f"known must be bool and have the shape of the regions, {tuple(regions.shape)}; "
                f"got {tuple(known.shape)}, {known.dtype}."
            )
        if bool((regions & ~known).any()):
            raise InvalidInputError(
                "A region has pixels that are not known; remove them from the region."
            )


def box_ious(
    heatmaps: torch.Tensor, boxes: torch.Tensor, thresholds: Sequence[float]
) -> torch.Tensor:
    """Return the best overlap of a box around a part of each heatmap with the true box.

    Choe et al., arXiv 2007.04178, section 4.1 (MaxBoxAccV2): at each threshold every connected part
    of ``heatmap >= threshold`` gets a box, and the best box counts. Needs SciPy (``compare``).

    Args:
        heatmaps: In [0, 1], (B, H, W).
        boxes: x0, y0, x1, y1 in pixels, the ends exclusive, (B, 4).
        thresholds: T values in [0, 1].

    Returns:
        Intersection over union of the best box, float64 (B, T); 0 where no pixel reaches the
        threshold.

    Raises:
        InvalidInputError: If the shapes do not fit each other, or SciPy is not installed.
    """
    try:
        from scipy.ndimage import find_objects, label  # SciPy takes longer to import than se_zoo
    except ImportError as error:
        raise InvalidInputError('Boxes need SciPy: pip install "se_zoo[compare]".') from error

    if heatmaps.dim() != 3 or boxes.shape != (len(heatmaps), 4):
        raise InvalidInputError(
            "heatmaps must be (B, H, W) and boxes (B, 4); got "
            f"{tuple(heatmaps.shape)} and {tuple(boxes.shape)}."
        )
    if not bool((boxes[:, :2] < boxes[:, 2:]).all()):
        raise InvalidInputError(
            f"boxes must be x0 y0 x1 y1 with x0 < x1 and y0 < y1, not {boxes.tolist()}."
        )
    maps, true = heatmaps.detach().cpu().numpy(), boxes.cpu().double().numpy()
    found = np.zeros((len(maps), len(thresholds)))
    neighbours = np.ones((3, 3))
    for n, heatmap in enumerate(maps):
        for t, threshold in enumerate(thresholds):
            labelled: Any = label(heatmap >= threshold, neighbours)
            parts = find_objects(labelled[0])
            if parts:
                corners = [(c.start, r.start, c.stop, r.stop) for r, c in parts]
                found[n, t] = _ious(np.asarray(corners, float), true[n]).max()
    return torch.from_numpy(found)


def _ious(boxes: np.ndarray, true: np.ndarray) -> np.ndarray:
    across = np.minimum(boxes[:, 2], true[2]) - np.maximum(boxes[:, 0], true[0])
    down = np.minimum(boxes[:, 3], true[3]) - np.maximum(boxes[:, 1], true[1])
    common = across.clip(0) * down.clip(0)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return common / (areas + (true[2] - true[0]) * (true[3] - true[1]) - common)


#: IoUs from which on a box counts as a hit.
WANTED_IOUS = (0.3, 0.5, 0.7)


def max_box_accuracy(
    ious: torch.Tensor, wanted: Sequence[float] = WANTED_IOUS
) -> Tuple[float, float]:
    """Return MaxBoxAccV2, and the mean IoU at the threshold where the mean IoU is largest.

    Choe et al., arXiv 2007.04178, equation 3: the share of images with at least the wanted IoU, at
    the one threshold that is best for all images together, averaged over the wanted IoUs.

    Args:
        ious: IoUs of :func:`box_ious`, (B, T).
        wanted: IoUs from which on a box counts as a hit.

    Returns:
        Accuracy and mean IoU, both in [0, 1].
    """
    shares = [float((ious >= least).double().mean(0).max()) for least in wanted]
    return sum(shares) / len(shares), float(ious.mean(0).max())


def mosaic(images: torch.Tensor, columns: int = 2) -> Tuple[torch.Tensor, torch.Tensor]:
    """Arrange images as mosaics, for the grid pointing game.

    Böhle et al., arXiv 2104.00032, section 4.1: images of different classes lie side by side. The
    evidence for a class should lie in the cell of its image, which :func:`energy_in_region`
    measures.

    Args:
        images: (N * columns**2, C, H, W), in reading order, one mosaic after the other.
        columns: Number of cells in each row and in each column.

    Returns:
        Mosaics (N, C, columns * H, columns * W), and the regions of the cells in the order of the
        images, (N * columns**2, columns * H, columns * W) bool.

    Raises:
        InvalidInputError: If the number of images is not a multiple of the number of cells.
    """
    cells = columns**2
    if images.dim() != 4 or not len(images) or len(images) % cells:
        raise InvalidInputError(
            f"A mosaic needs {cells} images, so give a multiple of {cells} images (B, C, H, W); "
            f"got {tuple(images.shape)}."
        )
    count, (height, width) = len(images) // cells, images.shape[2:]
    grid = images.unflatten(0, (count, columns, columns)).permute(0, 3, 1, 4, 2, 5)
    regions = torch.zeros(cells, columns * height, columns * width, dtype=torch.bool)
    for cell, region in enumerate(regions):
        top, left = cell // columns * height, cell % columns * width
        region[top : top + height, left : left + width] = True
    whole = grid.reshape(count, images.shape[1], columns * height, columns * width)
    return whole, regions.repeat(count, 1, 1).to(images.device)
