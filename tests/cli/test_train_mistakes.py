"""`medgen train`: one line for every mistake, and nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def files(tmp_path):
    np.savez("good.npz", x=tiny.images(20))
    x = tiny.images(20)
    x[3, 2, 1] = np.nan
    np.savez("nan.npz", x=x)
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "junk.npz").write_bytes(b"no archive" * 20)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    return tiny.contents(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "which family?"),
        (["train", "vae"], "train on what?"),
        (["train", "vea", "--data", "good.npz"], "unknown family 'vea'; did you mean 'vae'"),
        (["train", "vae", "--data", "nowhere.npz"], "no file, folder or registered dataset 'nowhere.npz'"),
        (["train", "vae", "--data", "cardiac_fantom"], "did you mean 'cardiac_phantom'"),
        (["train", "vae", "--data", "cardiac_phantom?sise=3"], "no option 'sise'; did you mean 'size'"),
        (["train", "vae", "--data", "nan.npz"], "nan.npz x[3]: values must be finite; got 1 NaN"),
        (["train", "vae", "--data", "cut.npz"], "cut.npz"),
        (["train", "vae", "--data", "junk.npz"], "junk.npz"),
        (["train", "vae", "--data", "text"], "text"),
        (["train", "vae", "--data", "full"], "full: holds no file that medgen reads"),
        (["train", "vae", "--data", "good.npz", "--out", "full"], "full is not empty"),
        (["train", "vae", "--data", "good.npz", "--out", "text"], "text is not empty"),
        (["train", "vae", "--data", "good.npz", "--out", "text/run"], "cannot write text/run"),
        (["train", "vae", "--data", "good.npz", "--epoch", "3"], "unknown option '--epoch'; did you mean '--epochs'"),
        (["train", "vae", "--data", "good.npz", "--model.latent_dims", "3"], "did you mean '--model.latent_dim'"),
        (["train", "vae", "--data", "good.npz", "more.npz"], "unknown argument 'more.npz'"),
        (["train", "vae", "--data"], "--data: expected one argument. See `medgen train --help`."),
        (["train", "vae", "--data", "good.npz", "--lr"], "--lr: expected one argument. See `medgen train vae --help`."),
        (["train", "vae", "--data", "good.npz", "--lr", "fast"], "`lr` of TrainConfig: input should be a valid number; got 'fast'"),
        (["train", "vae", "--data", "good.npz", "--lr", "-1"], "greater than 0; got -1"),
        (["train", "vae", "--data", "good.npz", "--lr", "nan"], "finite"),
        (["train", "vae", "--data", "good.npz", "--steps", "1.5"], "`steps` of TrainConfig"),
        (["train", "vae", "--data", "good.npz", "--optimizer", "adma"], "'adam', 'adamw', 'rmsprop' or 'sgd'; got 'adma'"),
        (["train", "vae", "--data", "good.npz", "--precision", "float16", "--device", "cpu"], "bfloat16"),
        (["train", "vae", "--data", "good.npz", "--device", "tpu"], "'auto', 'cpu' or 'cuda'"),
        (["train", "vae", "--data", "good.npz", "--model.latent_dim", "0"], "`latent_dim` of VaeConfig"),
        (["train", "vae", "--data", "good.npz", "--model.channels", "8", "many"], "`channels.1` of VaeConfig"),
        (["train", "vae", "--data", "good.npz", "--window", "5", "1"], "`window` of DataConfig: must increase"),
        (["train", "vae", "--data", "good.npz", "--window", "5"], "`window.1` of DataConfig"),
        (["train", "vae", "--data", "good.npz", "--key", "y"], "no array 'y'"),
        (["train", "vae", "--data", "good.npz", "--model.likelihood", "bernoulli", "--range", "-1", "1"], "can only produce [0, 1]"),
        (["train", "cvae", "--data", "good.npz", "--labels", "y"], "no array 'y'"),
        (["train", "--resume", "nowhere"], "nowhere is not a run folder"),
        (["train", "--resume", "full"], "full is not a run folder"),
        (["train", "--config", "nowhere.yaml"], "cannot read nowhere.yaml: No such file"),
        (["train", "--config", "full"], "cannot read full: Is a directory"),
        (["train", "--config", "good.npz"], "good.npz is not YAML"),
        (["train", "--config", "text"], "text must hold a mapping"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_and_leaves_nothing_behind(files, tmp_path, words, said):
    assert said in tiny.refused(*words)
    assert tiny.contents(tmp_path) == files
    assert {p.name for p in tmp_path.iterdir()} == {name.partition("/")[0] for name in files}, "no empty folders either"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("family: vae\ndata: x\nstep: 3", "unknown key 'step'; did you mean 'steps'"),
        ("family: vae\ndata: good.npz\nmodel: {latent: 3}", "VaeConfig has no key 'latent' (got 3); did you mean 'latent_dim'"),
        ("family: vae\ndata: good.npz\nmodel: 3", "`model` in c.yaml must be a mapping"),
        ("family: 3\ndata: good.npz", "which family?"),
        ("family: vae\ndata: 3", "`data` of RunConfig"),
        ("1: 2\nfamily: vae\ndata: x", "unknown key 1"),
        ("family: vae\ndata: good.npz\nseed: 2020-01-01", "TrainConfig takes plain values"),
        ("family: vae\ndata: good.npz\nlr: [1]", "`lr` of TrainConfig"),
        ("\tfamily: vae", "c.yaml is not YAML"),
    ],
)
def test_mistakes_in_yaml(files, tmp_path, text, said):
    (tmp_path / "c.yaml").write_text(text)
    assert said in tiny.refused("train", "--config", "c.yaml", "--out", "a")
    assert not (tmp_path / "a").exists()


def test_a_taken_folder_says_how_to_go_on():
    tiny.ok(*tiny.VAE, "--out", "a")
    assert (
        tiny.refused(*tiny.VAE, "--out", "a") == "a already holds a run. Go on with it: medgen train --resume a; or choose another --out."
    )


def test_debug_shows_the_traceback():
    answer = tiny.cli("--debug", "train", "vae", "--data", "nowhere.npz")
    assert answer.code == 2
    assert answer.err.startswith("Traceback")
    assert answer.err.splitlines()[-1].startswith("medgen: error: there is no file")
