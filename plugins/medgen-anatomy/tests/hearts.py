"""Drawn label maps: one heart per view that meets every criterion, and for each criterion one that violates it alone."""

from __future__ import annotations

import numpy as np

SIZE = 256
ROW, COLUMN = np.mgrid[:SIZE, :SIZE]

BG, LV, MYO, LA = range(4)  # as in `echo_criteria`


def half_ellipse(row, column, height, width):
    """Rows above `row`."""
    inside = ((ROW - row) / height) ** 2 + ((COLUMN - column) / width) ** 2 < 1
    return inside & (row >= ROW)


def echo(wall=12, atrium=30):
    """Apex up: a bullet-shaped cavity in a wall, on an atrium."""
    heart = np.zeros((SIZE, SIZE), dtype=np.uint8)
    heart[half_ellipse(150, 128, 90 + wall, 35 + wall)] = MYO
    heart[half_ellipse(150, 128, 90, 35)] = LV
    heart[half_ellipse(255 - 151, 128, 50, atrium)[::-1]] = LA
    return heart


def painted(heart, *changes):
    """The same with (rows, columns, label) changed."""
    heart = heart.copy()
    for rows, columns, label in changes:
        heart[rows, columns] = label
    return heart


def ends(row, label):
    """First and last column of a label."""
    columns = np.flatnonzero(row == label)
    return int(columns[0]), int(columns[-1])


def right_wall(heart, row, cavity, wall):
    """Innermost and outermost column of the wall on the right."""
    return ends(heart[row], cavity)[1] + 1, ends(heart[row], wall)[1]


def slit(heart, cavity, wall, rows, nub=0):
    """A slit through the right wall that 4 neighbours close and 8 leave open, with `nub` pixels of the cavity in it."""
    for row in rows:
        inner, outer = right_wall(heart, row, cavity, wall)
        flat = all(right_wall(heart, row + d, cavity, wall)[0] <= inner for d in (-1, 1))
        if flat and right_wall(heart, row - 1, cavity, wall)[1] == outer - 1:
            return painted(heart, (row, slice(inner, inner + nub), cavity), (row, slice(inner + nub, outer), 0))
    raise AssertionError("no row has a step")


def without_wall(heart):
    """The lower part of the right wall removed."""
    return np.where((heart == MYO) & (ROW >= 115) & (COLUMN > 128), BG, heart).astype(np.uint8)


def echo_failures():
    """Criterion -> a map that violates it alone."""
    heart = echo()
    inside_out = np.full((SIZE, SIZE), LV, dtype=np.uint8)
    inside_out[np.hypot(ROW - 128, COLUMN - 128) < 60] = MYO
    inside_out[236:, 226:] = LA
    inner, outer = right_wall(heart, 100, LV, MYO)
    middle = (inner + outer) // 2
    thick = echo(wall=20)
    inner_thick, _ = right_wall(thick, 90, LV, MYO)
    return {
        "holes_in_lv": inside_out,
        "holes_in_epi": painted(heart, (slice(100, 102), slice(middle, middle + 2), BG)),
        "holes_in_atrium": painted(heart, (170, 128, BG)),
        "disconnectivity_in_lv": painted(heart, (100, middle, LV)),
        "disconnectivity_in_myo": painted(heart, (20, 20, MYO)),
        "disconnectivity_in_atrium": painted(heart, (250, 20, LA)),
        "holes_between_lv_and_myo": slit(heart, LV, MYO, range(90, 140)),
        "holes_between_lv_and_atrium": painted(heart, (slice(149, 153), slice(126, 131), BG)),
        "frontier_ratio_between_lv_and_bg": without_wall(heart),
        "frontier_ratio_between_myo_and_atrium": echo(atrium=46),
        "erosion_ratio_before_myo_split": painted(thick, (slice(89, 92), slice(inner_thick + 3, 200), BG)),
        "width_ratio_between_lv_and_myo": echo(wall=5),
    }


RV, CAVITY = 1, 3  # as in `mri_criteria`, where 2 is the myocardium too


def disc(row, column, radius):
    return np.hypot(ROW - row, COLUMN - column) < radius


def mri(rv_shift=0):
    """Short axis: a round cavity in a ring, and a crescent on its left."""
    heart = np.zeros((SIZE, SIZE), dtype=np.uint8)
    heart[np.roll(disc(128, 85, 40) & ~disc(128, 140, 45), -rv_shift, axis=1)] = RV
    heart[disc(128, 140, 45)] = MYO
    heart[disc(128, 140, 30)] = CAVITY
    return heart


def block(rows, columns, label, heart=None):
    heart = np.zeros((SIZE, SIZE), dtype=np.uint8) if heart is None else heart
    heart[rows[0] : rows[1], columns[0] : columns[1]] = label
    return heart


def diagonal_contacts(heart, outside, side):
    """Twice, the cavity touches what lies outside the wall at a corner, between two corners of the wall."""
    heart = heart.copy()
    for row in (126, 130):
        columns = np.flatnonzero(heart[row + 1] == CAVITY)
        if side == "left":
            nub = int(columns[0]) - 1
            heart[row, ends(heart[row], MYO)[0] : nub] = outside
        else:
            nub = int(columns[-1]) + 1
            heart[row, nub + 1 : ends(heart[row], MYO)[1] + 1] = outside
        heart[row + 1, nub] = CAVITY
    return heart


def mri_failures():
    """Criterion -> a map that violates it alone."""
    heart = mri()
    septum = ends(heart[128], MYO)[0]
    inside_out = np.full((SIZE, SIZE), CAVITY, dtype=np.uint8)
    inside_out[disc(128, 128, 40)] = MYO
    wrapped = np.where(disc(128, 140, 70) & (COLUMN < 140) & (heart == 0), RV, heart).astype(np.uint8)
    outer = ends(heart[128], MYO)[1]
    return {
        "holes_in_lv": inside_out,
        "holes_in_rv": painted(heart, (128, 70, BG)),
        "holes_in_myo": painted(heart, (128, 177, BG)),
        "disconnectivity_in_lv": painted(heart, (128, 172, CAVITY)),
        "disconnectivity_in_rv": painted(heart, (128, 40, RV)),
        "disconnectivity_in_myo": painted(heart, (128, outer + 2, MYO)),
        "holes_between_lv_and_myo": slit(heart, CAVITY, MYO, range(100, 140), nub=1),
        "holes_between_rv_and_myo": painted(heart, (slice(124, 133), slice(septum - 3, septum), BG)),
        "rv_disconnected_from_myo": mri(rv_shift=5),
        "frontier_between_lv_and_rv": diagonal_contacts(heart, RV, "left"),
        "frontier_between_lv_and_background": diagonal_contacts(heart, BG, "right"),
        "lv_concavity": painted(heart, (slice(125, 132), slice(145, 175), MYO)),
        "rv_concavity": wrapped,
        "myo_concavity": painted(heart, (slice(124, 133), slice(outer - 5, outer + 1), BG)),
        "lv_circularity": block((126, 130), (90, 190), CAVITY, block((116, 140), (80, 200), MYO)),
        "myo_circularity": block((127, 130), (129, 132), CAVITY, block((124, 133), (40, 221), MYO)),
    }
