"""The loop of every sampler: samples that do not know their batch, nothing allocated, nothing waited for, nothing broken by a stop."""

from __future__ import annotations

import pytest
import torch
from sampling.oracles import BAR, chain_denoiser, edm_denoiser, straight_velocity
from sampling.samplers import GO_BACK, KEPT, ORACLES, SAMPLERS, SIGMAS, TIMES
from torch.utils._python_dispatch import TorchDispatchMode

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.maths import karras_sigmas
from medgen.sampling import Known, ancestral, ddim, dpm_solver, heun, ode

every_sampler = pytest.mark.parametrize("name", SAMPLERS)


class Watch(TorchDispatchMode):
    """What runs while it is open: operators that make memory of their own, and those that make the host wait."""

    WAITS = ("aten::_local_scalar_dense", "aten::_to_copy", "aten::nonzero", "aten::equal", "aten::is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []
        self.waits: list[str] = []
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {t.untyped_storage().data_ptr() for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        self.seen += 1
        for t in torch.utils._pytree.tree_leaves(result):
            if isinstance(t, torch.Tensor) and t.numel() and t.untyped_storage().data_ptr() not in given:
                self.made.append(name)
        if name in self.WAITS:
            self.waits.append(name)
        return result


@every_sampler
def test_alone_is_as_in_a_batch_to_the_bit(name):
    sampler = SAMPLERS[name]
    batch = sampler((3, 2), Noise.of(5, range(100, 164)))
    for i in (0, 17, 63):
        assert bool((sampler((3, 2), Noise.of(5, [100 + i]))[0] == batch[i]).all())
    assert not bool((sampler((3, 2), Noise.of(6, [100]))[0] == batch[0]).all())


@pytest.mark.parametrize(("name", "resample"), [*((name, 1) for name in SAMPLERS), *((name, 3) for name in GO_BACK)])
def test_alone_is_as_in_a_batch_with_something_known(name, resample):
    known = Known(torch.tensor([[0.5, 0.0]]), torch.tensor([[True, False]]), resample=resample)
    batch = SAMPLERS[name]((3, 2), Noise.of(5, range(64)), known=known)
    assert bool((SAMPLERS[name]((3, 2), Noise.of(5, [9]), known=known)[0] == batch[9]).all())


@every_sampler
def test_a_step_allocates_nothing_and_waits_for_nothing(name):
    """The operators between two calls of a network that allocates nothing itself; what is done once, before and after, is not counted."""
    sampler, given = SAMPLERS[name], torch.zeros(4, 6)
    watches: list[Watch] = []

    def network(x, t):
        if watches:
            watches[-1].__exit__(None, None, None)
        watches.append(Watch())
        watches[-1].__enter__()
        return given

    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    try:
        sampler(x, Noise.of(0, range(4)), network)
    finally:
        watches[-1].__exit__(None, None, None)
    steps = watches[1:-1]  # the first checks shapes; a pass through the reference, without native ops, makes temporaries inside the op
    assert len(steps) >= 6
    assert all(watch.seen for watch in steps)
    assert [watch.made for watch in steps] == [[]] * len(steps)
    assert [watch.waits for watch in steps] == [[]] * len(steps)


def test_the_watch_sees_what_it_is_for():
    with Watch() as watch:
        x = torch.ones(3) + 1
        float(x.sum())
        x.add_(1)
    assert watch.made.count("aten::add") == 1
    assert "aten::_local_scalar_dense" in watch.waits


@every_sampler
def test_known_parts_allocate_nothing_either(name):
    given, x = torch.zeros(4, 6), torch.zeros(4, 6)
    known = Known(torch.ones(6), torch.arange(6) < 3)
    made = []

    def after(k, x):  # runs after the replacement
        if made and isinstance(made[-1], Watch):
            made[-1].__exit__(None, None, None)
        made.append(Watch() if k else None)
        if k:
            made[-1].__enter__()

    SAMPLERS[name](x, Noise.of(0, range(4)), lambda x, t: given, known=known, callback=after)
    assert all(watch.made == [] and watch.waits == [] and watch.seen for watch in made[1:-1])


@every_sampler
def test_the_first_x_is_left_alone_and_is_the_drawn_one(name):
    noise = Noise.of(3, range(5))
    drawn = noise.normal(4) * (float(SIGMAS[0]) if name.startswith("heun") else 1.0)
    before = drawn.clone()
    assert bool((SAMPLERS[name](drawn, noise) == SAMPLERS[name]((4,), noise)).all())
    assert bool((drawn == before).all())


@every_sampler
def test_callback(name):
    seen = []
    found = SAMPLERS[name]((2,), Noise.of(0, range(3)), callback=lambda k, x: seen.append((k, x.clone(), x.data_ptr())))
    assert [k for k, _, _ in seen] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert bool((seen[-1][1] == found).all())
    assert len({address for _, _, address in seen}) == 1
    assert bool((found == SAMPLERS[name]((2,), Noise.of(0, range(3)))).all())


@every_sampler
def test_a_stop_breaks_nothing(name):
    sampler, noise, calls = SAMPLERS[name], Noise.of(0, range(3)), 0
    x = noise.normal(2)
    before, expected = x.clone(), sampler(x, noise)

    def interrupted(x, t):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return ORACLES[name](x, t)

    with pytest.raises(KeyboardInterrupt):
        sampler(x, noise, interrupted)
    assert torch.is_grad_enabled()
    assert bool((x == before).all())
    assert bool((sampler(x, noise) == expected).all())


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(name, dtype):
    noise = Noise.of(0, range(50))
    x = noise.normal(3, dtype=dtype) * (float(SIGMAS[0]) if name.startswith("heun") else 1.0)

    def network(x, t):  # as one under autocast: works in float32 or float64, answers in the dtype of x
        return ORACLES[name](x.double(), t.double() if t.is_floating_point() else t).to(x.dtype)

    found, wide = SAMPLERS[name](x, noise, network), SAMPLERS[name](x.double(), noise, network)
    assert found.dtype == dtype
    tolerance = 0.15 if dtype == torch.bfloat16 else 1e-12
    assert float((found.double() - wide).abs().mean()) < tolerance


@every_sampler
def test_no_gradient_is_recorded(name):
    weight = torch.ones((), requires_grad=True)
    assert not SAMPLERS[name]((2,), Noise.of(0, [0]), lambda x, t: weight * ORACLES[name](x, t)).requires_grad


@every_sampler
def test_empty_batch(name):
    assert SAMPLERS[name]((2, 3), Noise.of(0, [])).shape == (0, 2, 3)


def test_networks_are_told_the_kept_steps_and_levels():
    told = []
    noise = Noise.of(0, range(3))
    for sampler in (ancestral, ddim, dpm_solver):
        sampler(lambda x, t: told.append(t.tolist()) or x, (2,), BAR, noise=noise, kept=KEPT)
        assert told == [[t] * 3 for t in KEPT.flip(0).tolist()]
        told.clear()
    heun(lambda x, sigma: told.append(sigma.tolist()) or x, (2,), torch.tensor([4.0, 2.0, 0.0]), noise=noise)
    assert told == [[4.0] * 3, [2.0] * 3, [2.0] * 3]  # Heun's second call at 2, none at 0
    told.clear()
    ode(lambda x, t: told.append(t.tolist()) or x, (2,), [1.0, 0.5, 0.0], method="midpoint", noise=noise)
    assert told == [[1.0] * 3, [0.75] * 3, [0.5] * 3, [0.25] * 3]


class TestRefusals:
    NOISE = Noise.of(0, range(2))

    @every_sampler
    def test_noise_for_others(self, name):
        with pytest.raises(ConfigError, match=r"noise|index"):
            SAMPLERS[name](torch.zeros(3, 2), self.NOISE)

    @pytest.mark.parametrize("name", ["dpm_solver", "heun", "euler"])
    def test_a_shape_without_noise(self, name):
        with pytest.raises(ConfigError, match="noise"):
            SAMPLERS[name]((2,), None)

    @every_sampler
    def test_outputs_of_another_shape(self, name):
        with pytest.raises(ConfigError, match=r"output|must return"):
            SAMPLERS[name]((2,), self.NOISE, lambda x, t: torch.zeros(2, 3))

    def test_chains(self):
        with pytest.raises(ConfigError, match="eta is an argument of ddim"):
            ancestral(chain_denoiser(), (2,), BAR, noise=self.NOISE, variance=0.5)  # type: ignore[arg-type]
        for sampler in (ancestral, ddim, dpm_solver):
            with pytest.raises(ConfigError, match="kept"):
                sampler(chain_denoiser(), (2,), BAR, noise=self.NOISE, kept=torch.tensor([3, 1]))
            with pytest.raises(ConfigError, match="clip"):
                sampler(chain_denoiser(), (2,), BAR, noise=self.NOISE, clip=-1.0)
            with pytest.raises(ConfigError, match="prediction"):
                sampler(chain_denoiser(), (2,), BAR, noise=self.NOISE, prediction="noise")
        with pytest.raises(ConfigError, match="eta"):
            ddim(chain_denoiser(), (2,), BAR, noise=self.NOISE, eta=1.5)
        with pytest.raises(ConfigError, match="CUDA"):
            ancestral(chain_denoiser(), (2,), BAR, noise=self.NOISE, graph=True)

    def test_heun(self):
        for sigmas in ([1.0], [1.0, 2.0], [1.0, 1.0, 0.0], [1.0, -1.0], [[1.0, 0.0]], [float("nan"), 0.0]):
            with pytest.raises(ConfigError, match="sigmas"):
                heun(edm_denoiser, (2,), torch.tensor(sigmas), noise=self.NOISE)
        with pytest.raises(ConfigError, match="churn"):
            heun(edm_denoiser, (2,), karras_sigmas(3), noise=self.NOISE, churn=-1.0)
        with pytest.raises(ConfigError, match="noise"):
            heun(edm_denoiser, torch.zeros(2, 2), karras_sigmas(3), churn=1.0)

    def test_ode(self):
        for times in ([0.0], [0.0, 0.0], [0.0, 1.0, 0.5], [[0.0, 1.0]]):
            with pytest.raises(ConfigError, match="times"):
                ode(straight_velocity, (2,), times, noise=self.NOISE)
        with pytest.raises(ConfigError, match="method"):
            ode(straight_velocity, (2,), TIMES, noise=self.NOISE, method="rk4")  # type: ignore[arg-type]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCuda:
    @pytest.mark.parametrize("sampler", [ancestral, ddim])
    @pytest.mark.parametrize("known", [False, True])
    def test_graph_is_eager(self, sampler, known):
        bar, noise = BAR.cuda(), Noise.of(0, range(64), "cuda")
        given = Known(torch.ones(8), torch.arange(8) < 4) if known else None
        eager, graph = (
            sampler(chain_denoiser(bar=bar), (8,), BAR, noise=noise, kept=KEPT, known=given, graph=graph) for graph in (False, True)
        )
        assert bool((eager == graph).all())

    @pytest.mark.parametrize("name", ["ancestral", "ddim", "dpm_solver"])
    def test_chains_are_those_of_the_cpu(self, name):
        noise = Noise.of(0, range(64))
        there = SAMPLERS[name]((8,), noise.to("cuda"), chain_denoiser(bar=BAR.cuda()))
        torch.testing.assert_close(there.cpu(), SAMPLERS[name]((8,), noise), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("name", ["heun", "heun_churn", "euler", "midpoint", "ode_heun"])
    def test_solvers_are_those_of_the_cpu(self, name):
        noise = Noise.of(0, range(64))
        torch.testing.assert_close(SAMPLERS[name]((8,), noise.to("cuda")).cpu(), SAMPLERS[name]((8,), noise), rtol=1e-3, atol=1e-3)

    @every_sampler
    def test_no_step_waits_for_the_device(self, name):
        x, given = torch.randn(4, 6, device="cuda"), torch.zeros(4, 6, device="cuda")
        noise, calls = Noise.of(0, range(4), "cuda"), 0

        def network(x, t):
            nonlocal calls
            calls += 1
            torch.cuda.set_sync_debug_mode("error" if calls > 1 else "default")
            return given

        try:
            SAMPLERS[name](x, noise, network)
        finally:
            torch.cuda.set_sync_debug_mode("default")
