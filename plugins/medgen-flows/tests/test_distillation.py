"""Density distillation: a student that samples in one pass learns from a teacher that scores in one, without data.

Paper: Parallel WaveNet: Fast High-Fidelity Speech Synthesis (van den Oord et al., 2017) | https://arxiv.org/abs/1711.10433
"""

from __future__ import annotations

import pytest
import torch

import medgen
from medgen.interfaces import Batch, Noise, Step
from medgen.maths import log_standard_normal
from medgen.registry import ImageSpec

PLANE = ImageSpec(channels=2, shape=(), content="features")


def gap(student, teacher, noise):
    """KL[student || teacher] by a draw each: E ln p_S(x) - ln p_T(x), both in one pass."""
    u = noise.normal(2)
    x, log_det = student.transform.inverse(u)
    return (log_standard_normal(u).sum(1) - log_det - teacher.log_prob(x)).mean()


@pytest.mark.slow
def test_a_student_reaches_its_teacher():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(3000, 1, generator=generator)
    x = torch.cat([first, 0.5 * first.square() - 1 + 0.4 * torch.randn(3000, 1, generator=generator)], 1)
    teacher = medgen.create("maf", PLANE, layers=3, hidden=[32])
    optimizer = torch.optim.Adam(teacher.parameters(), 5e-3)
    for number in range(400):
        optimizer.zero_grad()
        teacher.phases()[0].loss(Batch(x), Step(number, 400, Noise(0, torch.arange(len(x)))))["loss"].backward()
        optimizer.step()
    teacher.requires_grad_(False)
    student = medgen.create("iaf", PLANE, layers=4, hidden=[32], activation="silu")
    optimizer = torch.optim.Adam(student.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1200)
    held_out = Noise(99, torch.arange(20000))
    with torch.no_grad():
        before = gap(student, teacher, held_out).item()
    for number in range(1200):
        optimizer.zero_grad()
        gap(student, teacher, Noise(number, torch.arange(512))).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        after = gap(student, teacher, held_out).item()
    assert before > 0.3
    assert -0.01 < after < 0.03
    torch.testing.assert_close(student.sample(4000).mean(0), x.mean(0), atol=0.12, rtol=0)
    torch.testing.assert_close(student.log_prob(x).mean(), teacher.log_prob(x).mean(), atol=0.1, rtol=0)
