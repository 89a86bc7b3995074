"""The measures in C++ against the reference, map by map; both against scikit-image, closed forms, and what must leave them alone."""

from __future__ import annotations

import math

import hearts
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medgen import native
from medgen.data.phantoms.cardiac import cardiac_label_map, draw_cardiac
from medgen_anatomy import reference
from medgen_anatomy.criteria import EXTENSION, Criteria, Criterion, _by_reference, echo_criteria, is_valid, measure, mri_criteria

SETS = (echo_criteria(), mri_criteria())


@pytest.fixture(scope="module")
def module():
    found = native.load_module(EXTENSION)
    if found is None:
        pytest.skip(f"no native module: {native.loaded('cpu', EXTENSION).reason}")
    return found


def compare(maps, spacing=(1.0, 1.0), sets=SETS):
    for criteria in sets:
        expected = np.array([_by_reference(np.asarray(m, dtype=np.uint8), criteria, spacing) for m in maps])
        np.testing.assert_allclose(measure(maps, criteria, spacing), expected, rtol=1e-12, atol=0, err_msg=criteria.name)


@st.composite
def maps(draw, least=1, most=70):
    """Noise, of any density, or rectangles on top of each other: everything that is odd about a map."""
    h, w = draw(st.integers(least, most)), draw(st.integers(least, most))
    rng = np.random.Generator(np.random.Philox(draw(st.integers(0, 2**32))))
    made = np.zeros((h, w), dtype=np.uint8) if draw(st.booleans()) else rng.integers(0, 4, (h, w), dtype=np.uint8)
    if draw(st.booleans()):
        made[rng.random((h, w)) < draw(st.sampled_from([0.5, 0.9, 0.99]))] = draw(st.integers(0, 3))
    for _ in range(draw(st.integers(0, 12))):
        (top, bottom), (left, right) = sorted(rng.integers(0, h + 1, 2)), sorted(rng.integers(0, w + 1, 2))
        made[top:bottom, left:right] = rng.integers(0, 4)
    return made


@pytest.mark.usefixtures("module")
class TestAgainstTheReference:
    @settings(max_examples=150, deadline=None)
    @given(maps(), st.floats(0.1, 5), st.floats(0.1, 5))
    @example(np.zeros((1, 1), np.uint8), 1.0, 1.0)
    @example(np.full((5, 5), 2, np.uint8), 1.0, 1.0)
    @example(np.full((1, 64), 1, np.uint8), 1.0, 2.0)
    @example(np.arange(130, dtype=np.uint8)[None] % 4, 1.0, 2.0)
    @example(np.arange(130, dtype=np.uint8)[:, None] % 4, 1.0, 2.0)
    def test_any_map(self, one, dy, dx):
        compare(one[None], (dy, dx))

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**32), st.integers(0, 40))
    def test_broken_hearts(self, seed, damage):
        rng = np.random.Generator(np.random.Philox(seed))
        size = int(rng.integers(64, 200))
        heart = cardiac_label_map(draw_cardiac(rng), size, 144 / size)
        for _ in range(damage):
            r, c = rng.integers(0, size, 2)
            h, w = rng.integers(1, 9, 2)
            heart[r : r + h, c : c + w] = rng.integers(0, 4)
        compare(heart[None], (144 / size, 144 / size))

    def test_drawn_hearts(self):
        drawn = [hearts.echo(), hearts.mri(), *hearts.echo_failures().values(), *hearts.mri_failures().values()]
        compare(np.stack(drawn), (0.7, 1.3))

    @settings(max_examples=60, deadline=None)
    @given(maps(), st.floats(0.1, 5), st.floats(0.1, 5))
    def test_distance_transform(self, module, one, dy, dx):
        from scipy.ndimage import distance_transform_edt

        mask = (one == 1).astype(np.uint8)
        found = module.distance_transform(mask, dy, dx)
        if mask.all():
            assert np.isinf(found).all()
        else:
            np.testing.assert_allclose(found, distance_transform_edt(mask, sampling=(dy, dx)), rtol=1e-12)

    @settings(max_examples=60, deadline=None)
    @given(maps())
    def test_convex_hull(self, module, one):
        mask = one == 2
        if mask.any():
            assert (module.convex_hull(mask.astype(np.uint8)) == reference.convex_hull(mask)).all()

    def test_far_distances_take_the_transform(self, module):
        """A search from every pixel would take hours here."""
        one = np.full((2, 1500, 1500), 2, dtype=np.uint8)
        one[0, 0, 0] = 0  # in the myocardium, whose largest distance is a diagonal
        one[1, :, :] = 0
        one[1, ::2, :3], one[1, 700, 1400:] = 1, 2
        values = measure(one, one_criterion("distance", ("rv",), ("myo",)))
        assert values[1, 0] == 1400 - 3
        far = measure(one[:1], one_criterion("erosion_ratio", ("myo",)))
        assert far[0, 0] == pytest.approx(1499 / math.hypot(1499, 1499))


def one_criterion(name, of, other=(), labels=None):
    labels = labels or {"background": 0, "rv": 1, "myo": 2, "lv": 3}
    return Criteria(name="one", labels=labels, items=(Criterion(name="one", measure=name, of=of, other=other),))


class TestReferenceAgainstScikitImage:
    @settings(max_examples=60, deadline=None)
    @given(maps(least=2))
    def test_hull_and_perimeter(self, one):
        measuring = pytest.importorskip("skimage.measure", reason="scikit-image is not installed")
        from skimage.morphology import convex_hull_image

        mask = one == 3
        if mask.any():
            assert (reference.convex_hull(mask) == convex_hull_image(mask)).all()
            assert reference.perimeter(mask) == pytest.approx(measuring.perimeter(mask, neighborhood=4), rel=1e-12)


class TestClosedForms:
    @pytest.mark.parametrize("radius", [20, 60, 120])
    def test_circularity(self, radius):
        """A disc's is near 1, and a hole does not change it; a rectangle's is that of its sides."""
        r = np.hypot(*np.mgrid[-130:131, -130:131])
        disc = np.where(r < radius, 2, 0)
        ring = np.where(r < radius / 2, 0, disc)
        bar = np.zeros_like(disc)
        bar[20:60, 20:120] = 2
        found = measure(np.stack([disc, ring, bar]), one_criterion("circularity", ("myo",)))[:, 0]
        assert found[0] == pytest.approx(1, abs=0.1)
        assert found[1] == found[0]
        # the estimator walks through the border pixels: sides of 39 and 99
        assert found[2] == pytest.approx(4 * math.pi * 40 * 100 / (2 * (39 + 99)) ** 2)

    @pytest.mark.parametrize(("depth", "width", "dx"), [(20, 41, 1.0), (30, 11, 1.0), (12, 15, 2.5)])
    def test_concavity(self, depth, width, dx):
        """A rectangular dent of the lower side: the deepest pixel that survives the erosion is nearest to the hull's lower side."""
        one = np.zeros((1, 100, 120), dtype=int)
        one[0, 10:80, 10:110] = 3
        one[0, 80 - depth : 80, 55 - width // 2 : 56 + width // 2] = 0
        assert measure(one, one_criterion("concavity", ("lv",)), (1.0, dx))[0, 0] == pytest.approx(depth - 1)
        one[0, 80 - depth : 80, 54:56], one[0, 80 - depth : 80, 30:54], one[0, 80 - depth : 80, 56:90] = 0, 3, 3
        assert measure(one, one_criterion("concavity", ("lv",)), (1.0, dx))[0, 0] == 0, "a slit is eroded away"

    @pytest.mark.parametrize(("h", "w"), [(9, 31), (10, 31), (40, 17)])
    def test_distance_transform_of_a_rectangle(self, module, h, w):
        mask = np.zeros((60, 70), dtype=np.uint8)
        mask[5 : 5 + h, 8 : 8 + w] = 1
        i, j = np.mgrid[0:h, 0:w]
        expected = np.minimum(0.7 * np.minimum(i + 1, h - i), 1.2 * np.minimum(j + 1, w - j))
        found = module.distance_transform(mask, 0.7, 1.2)
        np.testing.assert_allclose(found[5 : 5 + h, 8 : 8 + w], expected, rtol=1e-14)
        assert found[mask == 0].max() == 0

    @pytest.mark.parametrize(("thick", "neck"), [(21, 5), (31, 9), (15, 15)])
    def test_erosions_until_a_dumbbell_splits(self, thick, neck):
        """Two squares and a neck between them: it goes after ceil(neck / 2) erosions; the squares' centres are (thick + 1) / 2 deep."""
        one = np.zeros((1, 64, 128), dtype=int)
        one[0, 32 - thick // 2 : 33 + thick // 2, 10 : 10 + thick] = 2
        one[0, 32 - thick // 2 : 33 + thick // 2, 80 : 80 + thick] = 2
        one[0, 32 - neck // 2 : 33 + neck // 2, 10:80] = 2
        found = measure(one, one_criterion("erosion_ratio", ("myo",)))[0, 0]
        assert found == pytest.approx(math.ceil(neck / 2) / ((thick + 1) / 2))

    @pytest.mark.parametrize(("dy", "dx"), [(1.0, 1.0), (0.5, 2.0)])
    def test_distance_in_mm(self, dy, dx):
        """Two rectangles, 8 rows and 5 columns apart at their corners; growing by a pixel leaves 7 and 4 free, so 8 - 1 and 5 - 1 steps."""
        one = np.zeros((1, 40, 40), dtype=int)
        one[0, 5:10, 5:10], one[0, 17:25, 14:25] = 1, 2
        found = measure(one, one_criterion("distance", ("rv",), ("myo",)), (dy, dx))[0, 0]
        assert found == pytest.approx(math.hypot((17 - 9 - 1) * dy, (14 - 9 - 1) * dx))

    def test_counts(self):
        one = np.zeros((1, 256, 256), dtype=int)
        one[0, 50:100, 50:100] = 3
        one[0, 60:65, 60:67], one[0, 70:80, 70:80] = 0, 1  # a hole, and one that holds the right ventricle
        one[0, 120, 120], one[0, 130:132, 130:133] = 3, 3
        assert measure(one, one_criterion("holes", ("lv",)))[0, 0] == 35 + 100
        assert measure(one, one_criterion("holes_besides", ("lv",), ("rv",)))[0, 0] == 35
        assert measure(one, one_criterion("disconnectivity", ("lv",)))[0, 0] == 7
        assert measure(one, one_criterion("gap", ("lv",), ("rv",)))[0, 0] == 0, "a structure's own holes are no gap"
        one[0, 74:76, 68:70] = 0  # now the hole around the right ventricle is wider than it
        assert measure(one, one_criterion("gap", ("lv",), ("rv",)))[0, 0] == 0, "an artefact of 4 pixels"
        one[0, 77, 69] = 0
        assert measure(one, one_criterion("gap", ("lv",), ("rv",)))[0, 0] == 5
        assert measure(one, one_criterion("frontier", ("lv",), ("rv",)))[0, 0] == 4 * 10 + 4 - 3
        assert measure(one, one_criterion("width_ratio", ("lv",), ("rv",)))[0, 0] == (50 - 10 - 2) / 10


@pytest.mark.parametrize("criteria", SETS, ids=lambda c: c.name)
class TestInvariance:
    def some(self, n=24):
        rng = np.random.Generator(np.random.Philox(7))
        made = np.stack([cardiac_label_map(draw_cardiac(rng), 128, 1.3) for _ in range(n)])
        for one in made[::2]:
            for _ in range(20):
                r, c = rng.integers(20, 100, 2)
                one[r : r + 3, c : c + 4] = rng.integers(0, 4)
        made[:, :12], made[:, -12:], made[:, :, :12], made[:, :, -12:] = 0, 0, 0, 0
        return made

    def test_threads_and_batches_change_nothing(self, criteria):
        made = self.some()
        values = measure(made, criteria, (1.3, 1.1), threads=1)
        for threads in (2, 5, None):
            assert np.array_equal(measure(made, criteria, (1.3, 1.1), threads=threads), values, equal_nan=True)
        alone = np.concatenate([measure(one[None], criteria, (1.3, 1.1)) for one in made])
        assert np.array_equal(alone, values, equal_nan=True)

    def test_translation(self, criteria):
        made = self.some()
        values = measure(made, criteria, (1.3, 1.1))
        for shift in ((0, 7), (-9, 3), (5, -11)):
            assert np.array_equal(measure(np.roll(made, shift, axis=(1, 2)), criteria, (1.3, 1.1)), values, equal_nan=True)

    def test_mirrors(self, criteria):
        """Left and right are alike; top and bottom too, but for rounding the centre of mass to a row."""
        made = self.some()
        values = measure(made, criteria, (1.3, 1.1))
        np.testing.assert_allclose(measure(made[:, :, ::-1], criteria, (1.3, 1.1)), values, rtol=1e-12)
        upside = [c.measure != "width_ratio" for c in criteria.items]
        np.testing.assert_allclose(measure(made[:, ::-1], criteria, (1.3, 1.1))[:, upside], values[:, upside], rtol=1e-12)

    def test_any_integer_type_and_layout(self, criteria):
        made = self.some(4)
        values = measure(made, criteria)
        for dtype in (np.int8, np.uint16, np.int32, np.int64, np.uint64):
            assert np.array_equal(measure(made.astype(dtype), criteria), values, equal_nan=True)
        assert np.array_equal(measure(np.asfortranarray(made), criteria), values, equal_nan=True)
        assert measure(made[:0], criteria).shape == (0, len(criteria))
        assert is_valid(made[:0], criteria).shape == (0,)


def test_the_largest_map(module):
    one = np.zeros((1, 4096, 4096), dtype=np.uint8)
    one[0, 1000:3000, 1000:3000] = 2
    one[0, 1500:2500, 1500:2500] = 3
    assert is_valid(one, mri_criteria()).tolist() == [True]
