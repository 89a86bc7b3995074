"""A network in the arithmetic of sampling: when it is bfloat16, that it follows the weights, and that the network stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from medgen.interfaces import Noise
from medgen.nn import InferenceNet, inference, time_net

FAST = inference._cpu_has_bfloat16()


@pytest.fixture
def bfloat16_is_fast(monkeypatch):
    """Whatever the processor: bfloat16 is right everywhere, and fast on some."""
    monkeypatch.setattr(inference, "fast_bfloat16", lambda device: device.type == "cpu")


def unet(shape=(16, 16), channels=(16, 32), seed=0):
    torch.manual_seed(seed)
    net = time_net(1, 1, shape, channels, blocks=1, attention=[-1], embedding=3).eval()
    nn.init.normal_(net.last.weight, std=0.1)
    return net


def inputs(shape=(16, 16), n=6):
    noise = Noise.of(1, range(n))
    return noise.normal(1, *shape), torch.arange(n) * 150, noise.normal(3, stream=1)


def probe(shape=(16, 16)):
    return lambda: [inputs(shape, 4)]


@pytest.mark.usefixtures("bfloat16_is_fast")
def test_auto_is_bfloat16_where_that_is_near():
    net = unet()
    fast = InferenceNet()
    assert fast.dtype(net, probe()) == torch.bfloat16
    found, exact = fast.of(net, probe())(*inputs()), net(*inputs())
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert (found - exact).norm() < 0.02 * exact.norm()


def test_float32_is_the_network_itself():
    net = unet()
    fast = InferenceNet("float32")
    assert fast.of(net, probe()) is net
    assert fast.dtype(net, probe()) == torch.float32


@pytest.mark.usefixtures("bfloat16_is_fast")
@pytest.mark.parametrize(
    ("net", "why"),
    [(unet(channels=(8,)), "small"), (unet().double(), "float64"), (nn.Identity(), "without weights")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_auto_leaves_the_others_alone(net, why):
    assert InferenceNet().of(net, probe()) is net


@pytest.mark.usefixtures("bfloat16_is_fast")
def test_autocast_goes_first():
    net = unet()
    with torch.autocast("cpu", torch.bfloat16):
        assert InferenceNet().of(net, probe()) is net


def test_auto_asks_the_processor(monkeypatch):
    net = unet()
    monkeypatch.setattr(inference, "_cpu_has_bfloat16", lambda: False)
    assert InferenceNet().of(net, probe()) is net
    monkeypatch.setattr(inference, "_cpu_has_bfloat16", lambda: True)
    assert InferenceNet().of(net, probe()) is not net


class Cancelling(nn.Module):
    """f(x) = (w x) - (w - 1) x in two large layers: bfloat16 keeps nothing of the difference."""

    def __init__(self, size: float):
        super().__init__()
        self.one, self.other = nn.Linear(400, 400, bias=False), nn.Linear(400, 400, bias=False)
        with torch.no_grad():
            self.one.weight.copy_(size * torch.eye(400))
            self.other.weight.copy_((size - 1) * torch.eye(400))

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) - self.other(x)


class Longer(nn.Module):
    """f(x) = 1.0039 x, which is 1 in bfloat16: without noise, and 0.4 % too short."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((400, 400), 1.0039))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[0]


def vectors():
    return [(Noise.of(0, range(16)).normal(400),)]


@pytest.mark.usefixtures("bfloat16_is_fast")
def test_a_network_that_bfloat16_ruins_is_left_in_float32():
    mild, bad = Cancelling(1.0), Cancelling(1000.0)
    assert InferenceNet().of(mild, vectors) is not mild
    assert InferenceNet().of(bad, vectors) is bad
    assert InferenceNet("bfloat16").of(bad, vectors) is not bad  # who asks for it gets it


@pytest.mark.usefixtures("bfloat16_is_fast")
def test_a_factor_counts_more_than_noise():
    net = Longer()
    (x,) = vectors()[0]
    off = InferenceNet("bfloat16").of(net, vectors)(x) - net(x)
    assert off.norm() < 0.01 * net(x).norm()
    assert InferenceNet().of(net, vectors) is net


@pytest.mark.usefixtures("bfloat16_is_fast")
def test_nan_and_zero_outputs():
    """A network that gives zero, as new ones do, is the same in both; NaN is near nothing."""
    zero = unet()
    nn.init.zeros_(zero.last.weight)
    assert InferenceNet().of(zero, probe()) is not zero
    with torch.no_grad():
        zero.last.weight.fill_(torch.nan)
    assert InferenceNet().of(zero, probe()) is zero


@pytest.mark.usefixtures("bfloat16_is_fast")
@pytest.mark.parametrize("change", ["fused", "data", "buffer"])
def test_it_follows_the_weights(change):
    """Also where their version does not count up: fused optimizers, `.data`."""
    net = unet()
    net.register_buffer("unused", torch.zeros(3))
    asked = []

    def counted():
        asked.append(1)
        return [inputs(n=4)]

    fast = InferenceNet()
    fast.of(net, counted)
    before = len(asked)
    assert fast.of(net, counted) is fast.of(net, counted)
    assert len(asked) == before  # nothing is asked twice
    if change == "fused":
        optimizer = torch.optim.Adam(net.parameters(), lr=0.05, fused=True)
        net(*inputs()).square().sum().backward()
        optimizer.step()
    elif change == "data":
        net.last.weight.data.mul_(1.5)
    else:
        net.unused.fill_(1.0)
    found = fast.of(net, counted)(*inputs())
    assert len(asked) == before + 1
    assert (found - net(*inputs())).norm() < 0.02 * net(*inputs()).norm()
    with torch.no_grad():
        net.last.weight.fill_(torch.inf)
    assert fast.of(net, counted) is net


@pytest.mark.usefixtures("bfloat16_is_fast")
def test_the_network_is_not_touched():
    net = unet().train()
    kept = copy.deepcopy(net.state_dict())
    fast = InferenceNet().of(net, probe())
    with torch.inference_mode():
        fast(*inputs())
    assert net.training
    assert all(torch.equal(value, kept[name]) and value.dtype == kept[name].dtype for name, value in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    assert not fast(*inputs()).requires_grad


def test_made_in_inference_mode_it_still_follows():
    net, fast = unet(), InferenceNet("bfloat16")
    with torch.inference_mode():
        fast.of(net, probe())
    with torch.no_grad():
        net.last.weight.mul_(2.0)
    found = fast.of(net, probe())(*inputs())
    assert (found - net(*inputs())).norm() < 0.02 * net(*inputs()).norm()


@pytest.mark.parametrize("shape", [(), (40,), (33, 33), (12, 12, 12)], ids=str)
def test_every_layout(shape):
    """Channels last from 1024 positions on; no number of axes is special."""
    net = unet(shape)
    fast = InferenceNet("bfloat16").of(net, probe(shape))
    found, exact = fast(*inputs(shape)), net(*inputs(shape))
    assert found.shape == exact.shape
    assert (found - exact).norm() < 0.03 * exact.norm()


class Clock(nn.Module):
    """f(x, t) = t everywhere."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * 0 + (t - 800)[:, None] * self.weight


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_times_are_not_rounded(dtype):
    """In bfloat16 800 and 801 are one number."""
    x, t = torch.ones(2, 1), torch.tensor([800, 801], dtype=dtype)
    assert InferenceNet("bfloat16").of(Clock(), lambda: [(x, t)])(x, t).tolist() == [[0.0], [1.0]]


def test_copies_start_anew():
    net, fast = unet(), InferenceNet("bfloat16")
    fast.of(net, probe())
    other = copy.deepcopy(fast)
    assert (other.precision, other.compiled) == ("bfloat16", False)
    assert other._rounded is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_without_a_compiler_it_goes_on(precision, monkeypatch):
    def broken(net):
        def run(*inputs):
            raise RuntimeError("no compiler here")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    net = unet()
    plain = InferenceNet(precision).of(net, probe())(*inputs())
    fast = InferenceNet(precision, compiled=True).of(net, probe())
    with pytest.warns(UserWarning, match="without compilation: RuntimeError: no compiler here"):
        found = fast(*inputs())
    assert torch.equal(found, plain)
    assert torch.equal(fast(*inputs()), plain)  # and says so once


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled(precision):
    net = unet()
    fast = InferenceNet(precision, compiled=True)
    torch._dynamo.reset()
    for factor in (1.0, 2.0):
        with torch.no_grad():
            net.last.weight.mul_(factor)
            found, exact = fast.of(net, probe())(*inputs()), net(*inputs())
        assert (found - exact).norm() < (0.02 if precision == "bfloat16" else 1e-5) * exact.norm()
    torch._dynamo.reset()


@pytest.mark.skipif(not FAST, reason="needs a processor with AVX512-BF16 or AMX")
def test_this_processor():
    net = unet()
    assert InferenceNet().dtype(net, probe()) == torch.bfloat16
