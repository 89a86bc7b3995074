"""`medgen train`: runs, their folders, options and files, and how one goes on."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tiny
import yaml

import medgen
from medgen.cli import train as command
from medgen.factory import config_class
from medgen.registry import find_family
from medgen.runs import open_run
from medgen.training.loop import Loop

pytestmark = pytest.mark.usefixtures("elsewhere")


def weights(path):
    return (path / "model.safetensors").read_bytes()


def test_a_run_and_what_to_do_next(tmp_path):
    lines = tiny.ok(*tiny.VAE, "--out", "a/b").splitlines()
    assert lines[0] == "a/b: trained."
    assert [line.split()[:2] for line in lines[1:]] == [
        ["medgen", verb] for verb in ("sample", "reconstruct", "score", "evaluate", "report")
    ]
    assert tiny.ok("score", "a/b", "--device", "cpu").startswith("log p = ")
    offered = tiny.ok("train", "ae", "--data", tiny.PHANTOM, *tiny.TRAIN, "--out", "ae")
    assert "medgen sample" not in offered, "an ae cannot"
    assert "medgen reconstruct ae" in offered


def test_folders_are_numbered(tmp_path):
    np.savez("my scans.v2.npz", x=tiny.images(20))
    for number in ("", "-2", "-3"):
        assert tiny.ok(*tiny.VAE).startswith(f"runs/vae-cardiac_phantom{number}: trained.")
    assert tiny.ok("train", "medgen-autoencoders/vae", "--data", "my scans.v2.npz", *tiny.TRAIN).startswith("runs/vae-my-scans: trained.")
    assert tiny.ok("train", "vae", "--data", "./*.npz", *tiny.TRAIN).startswith("runs/vae-data: trained.")
    assert len(list((tmp_path / "runs").iterdir())) == 5


def test_the_config_of_a_run_repeats_it_to_the_bit(tmp_path):
    tiny.ok(*tiny.VAE, "--out", "a", "--lr", "3e-3", "--window", "0", "0.9", "--seed", 5, "--ema", ".9")
    tiny.ok("train", "--config", "a/config.yaml", "--out", "b", "--quiet")
    assert weights(tmp_path / "b") == weights(tmp_path / "a")
    assert (tmp_path / "b" / "config.yaml").read_bytes() == (tmp_path / "a" / "config.yaml").read_bytes()
    tiny.ok("train", "--config", "b/config.yaml", "--out", "c", "--quiet", "--seed", 6)
    assert weights(tmp_path / "c") != weights(tmp_path / "a")


def test_options_override_the_file_and_leave_the_rest(tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"family: vae\ndata: {tiny.PHANTOM}\nmodel: {{latent_dim: 3, channels: [4], noise_sd: 0.5}}\n"
        "lr: 2e-3\nsteps: 1\nbatch_size: 8\nwindow: [0, 1]\n"
    )
    tiny.ok(
        "train",
        "--config",
        "c.yaml",
        "--out",
        "a",
        "--quiet",
        "--model.latent_dim",
        2,
        "--model.noise_sd",
        "none",
        "--window",
        "none",
        "--lr",
        ".5",
    )
    config = open_run("a").config
    assert config.model == {"latent_dim": 2, "channels": [4], "noise_sd": None}
    assert (config.train.lr, config.train.steps, config.data_options) == (0.5, 1, {"window": None})


def test_the_family_named_here_wins_over_the_files(tmp_path):
    (tmp_path / "c.yaml").write_text(f"family: vae\ndata: {tiny.PHANTOM}\nsteps: 1\nbatch_size: 8\n")
    tiny.ok("train", "ae", "--config", "c.yaml", "--out", "a", "--quiet")
    assert open_run("a").config.family == "ae"


def test_what_show_prints_as_yaml_trains(tmp_path):
    (tmp_path / "vae.yaml").write_text(tiny.ok("show", "vae", "--yaml"))
    tiny.ok("train", "--config", "vae.yaml", "--data", tiny.PHANTOM, "--steps", 1, "--batch_size", 8, "--out", "a", "--quiet")
    assert medgen.load("a").config == config_class(find_family("vae"))()


def test_the_same_in_python(tmp_path):
    tiny.ok(*tiny.VAE, "--out", "a")
    medgen.train("vae", tiny.PHANTOM, "b", model=tiny.MODEL, steps=2, batch_size=8, device="cpu", show=False)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize("flag", [["--tensorboard"], ["--tensorboard", "true"], ["--tensorboard=True"]])
def test_flags(tmp_path, flag):
    tiny.ok(*tiny.VAE, *flag, "--out", "a")
    assert list((tmp_path / "a" / "tensorboard").iterdir())


def test_a_flag_that_is_off(tmp_path):
    tiny.ok(*tiny.VAE, "--tensorboard", "false", "--out", "a")
    assert not (tmp_path / "a" / "tensorboard").exists()


def test_dry_run_describes_and_writes_nothing(tmp_path):
    for word in ("--dry_run", "--dry-run"):
        text = tiny.ok(*tiny.VAE, word)
        assert "parameters" in text
        assert "[16, 16]" in text
        assert "medgen sample" not in text
    assert list(tmp_path.iterdir()) == []
    assert "can only produce" in tiny.refused(*tiny.VAE, "--dry_run", "--model.likelihood", "bernoulli", "--range", -1, 1)


def test_resume_goes_on_and_takes_nothing_else(tmp_path, monkeypatch):
    tiny.ok(*tiny.VAE, "--steps", 6, "--out", "whole")
    step = Loop._step

    def cut(self, batches):
        if self.position.step == 4:
            raise KeyboardInterrupt
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", cut)
        answer = tiny.cli(*tiny.VAE, "--steps", 6, "--checkpoint_every", 2, "--out", "a")
    assert (answer.code, answer.err.count("Traceback")) == (130, 0)
    assert "medgen train --resume RUN" in answer.err
    for more in (("--lr", 1), ("--out", "b"), ("--data", "x"), ("--dry_run",), ("vae",), ("--config", "a/config.yaml")):
        assert tiny.refused("train", "--resume", "a", *more) == "--resume takes every option from the run; give it alone."
    assert tiny.refused("train", "vae", "--resume", "a").startswith("--resume takes every option")
    assert tiny.ok("train", "--resume", "a", "--quiet").startswith("a: trained.")
    assert weights(tmp_path / "a") == weights(tmp_path / "whole")
    assert tiny.ok("train", "--resume", "a").startswith("a: trained."), "once more changes nothing"


def test_other_ranks_find_the_folder_that_the_first_made(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(command._free_folder("vae", "x.npz")) == "runs/vae-x"
    for age, name in enumerate(["vae-x", "vae-x-3", "vae-x-2"]):
        (tmp_path / "runs" / name).mkdir(parents=True)
        os.utime(tmp_path / "runs" / name, (age, age))
    assert str(command._free_folder("vae", "x.npz")) == "runs/vae-x-2"


def test_yaml_of_a_run_is_for_people(tmp_path):
    tiny.ok(*tiny.VAE, "--out", "a")
    values = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert list(values)[:3] == ["family", "data", "model"]
    assert values["model"]["channels"] == [4, 8]
