"""The measures of `medgen_anatomy.reference` by OpenCV, on bytes 0 and 1 with square pixels; hulls go through the pixels' centres."""

# ruff: noqa: ARG001 - all have the arguments (a, b, mm)

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

__all__ = ["MEASURES"]

cv2.setNumThreads(1)
SQUARE, CROSS = np.ones((3, 3), np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
KERNEL = np.array([[10, 2, 10], [2, 1, 2], [10, 2, 10]], np.float32)
WEIGHTS = np.zeros(64)
WEIGHTS[[5, 7, 15, 17, 25, 27]], WEIGHTS[[21, 33]], WEIGHTS[[13, 23]] = 1, math.sqrt(2), (1 + math.sqrt(2)) / 2
CONSTANT = {"borderType": cv2.BORDER_CONSTANT}


def parts(a: Any, neighbours: int) -> tuple[Any, Any]:
    """Labels, and the area of each."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(a, connectivity=neighbours, ltype=cv2.CV_16U)
    return labels, stats[:, cv2.CC_STAT_AREA]


def hole_mask(a: Any, neighbours: int) -> Any:
    labels, areas = parts(cv2.copyMakeBorder(1 - a, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1), neighbours)
    if len(areas) == 2:
        return np.zeros_like(a)
    return ((labels != 0) & (labels != labels[0, 0]))[1:-1, 1:-1].view(np.uint8)


def holes(a: Any, b: Any, mm: float) -> float:
    return float(cv2.countNonZero(hole_mask(a, 8)))


def holes_besides(a: Any, b: Any, mm: float) -> float:
    return float(cv2.countNonZero(hole_mask(a, 8) & (1 - b)))


def disconnectivity(a: Any, b: Any, mm: float) -> float:
    areas = parts(a, 8)[1][1:]
    return float(areas.sum() - areas.max())


def own_holes(a: Any, b: Any) -> Any:
    labels, areas = parts(1 - a, 4)
    if len(areas) == 2 and labels[0, 0]:
        return np.zeros_like(a)
    own = np.ones(len(areas), np.uint8)
    own[np.unique(labels[b != 0])] = 0
    own[[0, labels[0, 0]]] = 0
    return own[labels]


def gap(a: Any, b: Any, mm: float) -> float:
    labels, areas = parts(1 - (a | b | own_holes(a, b) | own_holes(b, a)), 4)
    count = areas[1:].sum() - (areas[labels[0, 0]] if labels[0, 0] else 0)
    return float(count) if count > a.size / 2**14 else 0.0


def frontier(a: Any, b: Any, mm: float) -> float:
    count = cv2.countNonZero(a & cv2.dilate(b, SQUARE))
    return float(count) if count > 1 else 0.0


def frontier_ratio(a: Any, b: Any, mm: float) -> float:
    return frontier(a, b, mm) / int(cv2.boundingRect(a)[2])


def distances(a: Any) -> Any:
    return cv2.distanceTransform(a, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def distance(a: Any, b: Any, mm: float) -> float:
    grown = cv2.dilate(a, SQUARE)
    return float(distances(1 - b)[grown != 0].min()) * mm if not cv2.countNonZero(grown & b) else 0.0


def erosion_ratio(a: Any, b: Any, mm: float) -> float:
    least = a.size / 2**14
    labels, areas = parts(a, 8)
    left, count = a if len(areas) == 2 else a * (areas >= least).astype(np.uint8)[labels], 0
    while len(parts(left, 8)[1]) == 2:
        left = cv2.erode(left, SQUARE)
        labels, areas = parts(left, 4)
        if (areas < least).any():
            left *= (areas >= least).astype(np.uint8)[labels]
        count += 1
    return count / float(distances(a).max())


def width_ratio(a: Any, b: Any, mm: float) -> float:
    moments = cv2.moments(a | b, binaryImage=True)
    row = int(moments["m01"] / moments["m00"])
    of_a, of_b = cv2.countNonZero(a[row]), cv2.countNonZero(b[row])
    return of_a / of_b if of_a and of_b else math.nan


def concavity(a: Any, b: Any, mm: float) -> float:
    filled = a | hole_mask(a, 4)
    hull = cv2.fillConvexPoly(np.zeros_like(a), cv2.convexHull(cv2.findNonZero(filled)), 1)
    dents = cv2.erode(hull & (1 - filled), SQUARE)
    return float((distances(hull) * dents).max()) * mm if cv2.countNonZero(dents) else 0.0


def circularity(a: Any, b: Any, mm: float) -> float:
    filled = a | hole_mask(a, 4)
    border = filled - cv2.erode(filled, CROSS, borderValue=0, **CONSTANT)
    codes = cv2.filter2D(border, cv2.CV_8U, KERNEL, **CONSTANT)
    length = float(np.bincount(codes.ravel(), minlength=64) @ WEIGHTS)
    return 4 * math.pi * cv2.countNonZero(filled) / length**2 if length else math.nan


MEASURES: Mapping[str, Callable[[Any, Any, float], float]] = {
    found.__name__: found
    for found in (
        holes,
        holes_besides,
        disconnectivity,
        gap,
        distance,
        frontier,
        frontier_ratio,
        erosion_ratio,
        width_ratio,
        concavity,
        circularity,
    )
}
