"""One plugin with something wrong about it: what is said, and what of it is still taken."""

from __future__ import annotations

import fakes
import pytest
from fakes import states

from medgen.errors import PluginError
from medgen.registry import find_family

MARKED = "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n"


class TestOneBadPlugin:
    def only(self, site, plugin, **modules):
        site.add("fake-bad", plugin, **modules).add("fake-good", fakes.SEVEN["fake-good"])
        host, warned = site.load()
        assert find_family("fake_vae", host).distribution == "fake-good"
        return next(status for status in host.plugins if status.distribution == "fake-bad"), warned, host

    def test_misspelled_hook_is_reported(self, site):
        status, warned, _ = self.only(site, fakes.family("bad", "fake_bad").replace("medgen_families", "medgen_familes"))
        assert status.state == "invalid"
        assert "unknown hook 'medgen_familes'" in status.reason
        assert len(warned) == 1

    def test_generator_that_raises_half_way(self, site):
        status, warned, host = self.only(site, fakes.family("bad_one", "fake_bad") + "    raise ValueError('half-way')\n")
        assert (status.state, status.withheld, status.items) == ("hook_failed", ["bad_one"], {})
        assert len(warned) == 1
        with pytest.raises(PluginError, match=r"family 'bad_one': its plugin fake_bad .*half-way"):
            find_family("bad_one", host)

    def test_one_bad_hook_withholds_the_good_one(self, site):
        plugin = fakes.family("bad_one", "fake_bad") + "\n@medgen.hookimpl\ndef medgen_metrics():\n    raise ValueError('no metrics')\n"
        status, _, host = self.only(site, plugin)
        assert (status.state, status.withheld) == ("hook_failed", ["bad_one"])
        with pytest.raises(PluginError, match="no metrics"):
            find_family("bad_one", host)

    def test_exit_at_import(self, site):
        status, warned, _ = self.only(site, "raise SystemExit('no licence')\n")
        assert (status.state, status.reason) == ("import_failed", "SystemExit: no licence")
        assert len(warned) == 1

    def test_interrupt_at_import_stops_everything(self, site):
        site.add("fake-bad", "raise KeyboardInterrupt\n")
        with pytest.raises(KeyboardInterrupt):
            site.load()

    def test_long_reason_is_cut(self, site):
        status, _, _ = self.only(site, "raise RuntimeError('x\\n' * 10_000)\n")
        assert len(status.reason) < 500
        assert len(status.traceback) > 10_000

    def test_entry_point_to_nowhere(self, site):
        site.metadata("fake-bad", "[medgen]\nbad = fake_nowhere.plugin\n")
        host, warned = site.load()
        assert states(host) == {"fake-bad": "import_failed"}
        assert len(warned) == 1

    def test_one_bad_item_rejects_that_item(self, site):
        plugin = fakes.family("kept", "fake_bad") + "    yield 'not a spec'\n    yield from medgen_families_twice()\n"
        plugin += "\ndef medgen_families_twice():\n    spec = medgen.FamilySpec\n"
        plugin += "    return [spec(name='kept', interfaces=('latent',), model='a:B', config='a:C')]\n"
        status, warned, host = self.only(site, plugin)
        assert status.state == "ready"
        assert find_family("kept", host).spec.interfaces == ("generator",)
        assert status.rejected == [
            "medgen_families: an item must be a FamilySpec; got 'not a spec'",
            "medgen_families: 'kept' is declared twice by the same distribution",
        ]
        assert len(warned) == 2

    def test_two_entry_points_of_one_distribution_cannot_share_a_name(self, site):
        both = "[medgen]\na = fake_bad.plugin\nb = fake_bad.second\n"
        site.add("fake-bad", fakes.family("same", "fake_bad"), entry_points=both, second=fakes.family("same", "fake_bad"))
        host, warned = site.load()
        assert find_family("same", host).qualified == "fake-bad/same"
        assert [len(status.rejected) for status in host.plugins] == [0, 1]
        assert len(warned) == 1

    @pytest.mark.parametrize(
        "plugin",
        [
            fakes.family("bad", "fake_bad").replace("@medgen.hookimpl", ""),
            "import medgen\n\n@medgen.hookimpl\ndef medgen_families():\n    [medgen.FamilySpec]\n",
        ],
        ids=["no decorator", "no return"],
    )
    def test_plugin_that_declares_nothing_has_a_note(self, site, plugin):
        status, warned, _ = self.only(site, plugin)
        assert status.state == "ready"
        assert "declares nothing" in status.notes[0]
        assert warned == []

    def test_plugin_that_imports_torch_has_a_note(self, site):
        site.add("fake-slow", "import torch\n" + fakes.family("slow", "fake_slow"))
        done = site.medgen("doctor")
        assert done.returncode == 0
        assert "fake_slow: note: its plugin module imports torch" in done.stdout

    def test_lost_metadata(self, site):
        site.add("fake-good", fakes.SEVEN["fake-good"])
        site.metadata("fake-lost", "[medgen]\nlost = fake_good.plugin\n", lost=True)
        host, _ = site.load()
        assert states(host)["(unnamed)"] in ("ready", "invalid")

    def test_unreadable_metadata_hides_no_other(self, site):
        site.add("fake-good", fakes.SEVEN["fake-good"])
        site.metadata("fake-unreadable", "[medgen]\nthis line has no equals sign\n")
        done = site.medgen("list")
        assert done.returncode == 0
        assert "fake_vae" in done.stdout
        assert [line for line in done.stderr.splitlines() if "fake-unreadable" in line and "reinstall" in line]
