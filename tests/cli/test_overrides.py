"""--model.NAME of the commands that work on a run: typed, for what can change after training only, without touching the run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch

import medgen
from medgen.runs import open_run

CPU = ("--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def run():
    return tiny.trained()


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    out = tmp_path_factory.mktemp("flow") / "run"
    small = {"conditional": False, "width": 2, "depth": 1, "levels": 1, "steps": 1}
    medgen.train("glow", "two_moons?n=60", out, model=small, steps=1, batch_size=8, device="cpu", show=False)
    return out


def test_samples_of_another_temperature(flow, tmp_path):
    before, model, noise = tiny.contents(flow), open_run(flow).model, {}
    for factor in (1, 0.5):
        out = tmp_path / str(factor)
        assert "4 new samples" in tiny.ok("sample", flow, "--model.temperature", factor, "-n", 4, "--format", "npz", "--out", out, *CPU)
        drawn = [torch.from_numpy(np.load(file)["x"]) for file in sorted(out.glob("*.npz"))]
        noise[factor] = model.encode(torch.stack(drawn)).mean.detach()
        note = json.loads((out / "samples.json").read_text())["overrides"]
        assert note == ({} if factor == 1 else {"temperature": 0.5})
    torch.testing.assert_close(noise[0.5], 0.5 * noise[1], atol=1e-4, rtol=1e-4)
    assert tiny.contents(flow) == before


def test_a_flag_and_every_command(run, tmp_path):
    words = {"score": (), "reconstruct": ("--out", tmp_path / "rec"), "evaluate": ("--metrics", "mae", "--bootstrap", 0)}
    own = tiny.copied(tmp_path).path
    for command, more in words.items():
        tiny.ok(command, own, "--model.sample_noise", *more, *CPU)
    assert json.loads((own / "evaluation.json").read_text())["scores"][0]["recipe"]["overrides"] == {"sample_noise": True}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.latent_dim", 3], "`latent_dim` of VaeConfig was fixed by training; what can be overridden: sample_noise."),
        (["--model.latent-dim", 3], "`latent_dim` of VaeConfig was fixed by training"),
        (["--model.sample_nose"], "unknown option '--model.sample_nose'; did you mean '--model.sample_noise'"),
        (["--model.sample_noise", "maybe"], "`sample_noise` of VaeConfig: input should be a valid boolean; got 'maybe'"),
    ],
)
@pytest.mark.parametrize("command", ["sample", "score", "reconstruct", "evaluate"])
def test_mistakes(run, command, words, said):
    assert said in tiny.refused(command, run, *words)


def test_options_before_the_run(run, tmp_path):
    assert "RUN comes before --model.sample_noise" in tiny.refused("sample", "--model.sample_noise", "true", run)
    assert "is not a run folder" in tiny.refused("sample", tmp_path, "--model.sample_noise")
    assert "the following arguments are required: RUN" in tiny.refused("sample", "-n", 3, "--model.sample_noise")


def test_help_shows_what_can_be_overridden(run, tmp_path):
    text = tiny.ok("sample", run, "--help")
    assert "--model.sample_noise" in text
    assert "--model.latent_dim" not in text
    for words in ([], [tmp_path]):
        text = tiny.ok("sample", *words, "--help")
        assert "--model" not in text
        assert "medgen sample RUN --help" in text
