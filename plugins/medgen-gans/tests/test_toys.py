"""The experiments: closed forms, counts, and at a small budget what they are meant to show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.cli.main import main
from medgen.data.phantoms import eight_gaussians
from medgen_gans.toys.known import best_discriminator, critic_distance
from medgen_gans.toys.modes import GAMES, count, keeps
from medgen_gans.toys.saddle import alternating, simultaneous


@given(eta=st.floats(0.01, 1.0), x=st.floats(-3, 3), y=st.floats(0.1, 3))
@settings(max_examples=30)
def test_players_who_move_at_once_spiral_out(eta, x, y):
    norm = np.linalg.norm(simultaneous(eta, 40, (x, y)), axis=1)
    np.testing.assert_allclose(norm[1:] / norm[:-1], np.sqrt(1 + eta * eta))


@given(eta=st.floats(0.01, 1.9), x=st.floats(-3, 3), y=st.floats(0.1, 3))
@settings(max_examples=30)
def test_players_who_take_turns_stay(eta, x, y):
    """x^2 + y^2 - eta x y is kept; its eigenvalues 1 -+ eta / 2 bound the norm."""
    path = alternating(eta, 500, (x, y))
    kept = (path**2).sum(1) - eta * path.prod(1)
    np.testing.assert_allclose(kept, kept[0], rtol=1e-6)
    bound = np.sqrt(kept[0] / (1 - eta / 2))
    assert np.linalg.norm(path, axis=1).max() <= bound * (1 + 1e-6)


def test_modes_are_counted_as_written():
    means = np.array(eight_gaussians().means)
    found = count(np.concatenate([np.repeat(means[:1], 30, 0), means[1:2], means[2:3] + np.array([0.061, 0]), np.zeros((8, 2))]))
    assert (found.modes, found.kept) == (2, 1)
    assert found.share == pytest.approx(31 / 40)
    p = np.array([30, 1]) / 31
    assert found.divergence == pytest.approx((p * np.log(8 * p)).sum())
    assert count(np.repeat(means, 5, 0)).divergence == pytest.approx(0.0)


@pytest.mark.parametrize("alpha", [1.0, 0.9])
def test_a_trained_discriminator_is_p_over_p_plus_q(alpha):
    found = best_discriminator(alpha)
    assert found.error < 0.06
    assert found.value == pytest.approx(found.wanted_value, abs=0.01)
    assert found.value <= found.wanted_value + 1e-9, "no discriminator is better than the best one"


def test_a_critic_measures_the_shift_within_five_percent():
    assert critic_distance(2.0).error < 0.05


@pytest.mark.parametrize("game", GAMES)
def test_games_at_a_small_budget(game):
    looks = keeps(game, 4, looks=2, batch_size=32)
    assert [look.step for look in looks] == [0, 2, 4]
    assert all(look.points.shape == (2500, 2) and np.isfinite(look.points).all() for look in looks)
    assert not np.array_equal(looks[0].points, looks[-1].points)
    again = keeps(game, 4, looks=2, batch_size=32)
    assert np.array_equal(again[-1].points, looks[-1].points)


def test_the_commands(tmp_path, capsys):
    assert main(["gan-toys", "saddle", "--steps", "20", "--out", str(tmp_path)]) == 0
    assert main(["gan-toys", "modes", "--games", "vanilla", "--steps", "2", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "simultaneous  1.105" in out
    assert "MODES" in out
    assert {path.name for path in tmp_path.iterdir()} == {"saddle.png", "modes.png"}
    assert main(["gan-toys", "modes", "--games", "nash"]) == 2
    assert "must be some of vanilla, balanced, r1, wgan_gp; got nash" in capsys.readouterr().err
    assert main(["gan-toys", "saddle", "--steps", "0"]) == 2


@pytest.mark.slow
def test_the_vanilla_game_loses_modes_and_the_penalties_keep_them():
    """Row 20. The same networks; what differs is the game."""
    vanilla, r1, wgan_gp = (keeps(name, steps, looks=4) for name, steps in (("vanilla", 800), ("r1", 1000), ("wgan_gp", 400)))
    assert min(look.count.modes for look in vanilla[1:]) <= 2
    assert max(look.count.kept for look in vanilla) < 8
    assert r1[-1].count.kept == 8
    assert max(look.count.modes for look in wgan_gp) == 8
