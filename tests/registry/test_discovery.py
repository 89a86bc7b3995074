"""Seven real distributions, one good: what the host, the names and the environment variables make of them."""

from __future__ import annotations

import subprocess
import sys

import fakes
import pytest
from fakes import states

from medgen.errors import DuplicateFamilyError, PluginError, UnknownNameError
from medgen.registry import find, find_family

MARKED = "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n"


@pytest.fixture
def seven(site):
    return fakes.seven(site.path)


class TestSeven:
    def test_each_has_its_state(self, seven):
        host, _ = seven.load()
        assert states(host) == {
            "fake-good": "ready",
            "fake-duplicate": "ready",
            "fake-import": "import_failed",
            "fake-raising": "hook_failed",
            "fake-arguments": "invalid",
            "fake-invalid": "hook_failed",
            "fake-newer": "ready",  # the plugin is well; its one item is rejected
        }

    def test_one_warning_of_one_line_per_failure(self, seven):
        _, warned = seven.load()
        assert len(warned) == len(fakes.BROKEN)
        for distribution in fakes.BROKEN:
            assert sum(f"({distribution} 1.0)" in message for message in warned) == 1
        assert not any("\n" in message for message in warned)

    def test_the_others_work(self, seven):
        host, _ = seven.load()
        assert [item.qualified for item in host.items("medgen_families")] == ["fake-duplicate/fake_vae", "fake-good/fake_vae"]
        assert find_family("fake-good/fake_vae", host).spec.model == "fake_good.model:Fake"

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("fake_import", "a_module_that_nobody_has"),
            ("fake_raising", "RuntimeError: the hook broke"),
            ("fake-raising/anything", "RuntimeError: the hook broke"),
            ("fake_arguments", "'size'"),
            ("fake_invalid", "'Not A Name'"),
            ("fake_future", "needs plugin API 99, this medgen has 1; upgrade medgen"),
        ],
    )
    def test_a_family_of_a_failed_plugin_is_not_called_unknown(self, seven, name, reason):
        host, _ = seven.load()
        with pytest.raises(PluginError) as error:
            find_family(name, host)
        assert reason in str(error.value)
        assert "unknown" not in str(error.value)

    def test_an_unknown_family_points_to_the_failed_plugins(self, seven):
        host, _ = seven.load()
        with pytest.raises(UnknownNameError, match=r"did you mean 'fake_vae'\?.*fake_import \(fake-import 1.0\).*medgen doctor"):
            find_family("fake_vea", host)

    def test_doctor_explains_each(self, seven):
        done = seven.medgen("doctor")
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        for line in (
            "fake_import: import_failed: ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
            "fake_raising: hook_failed: RuntimeError: the hook broke",
            "fake_arguments: invalid: PluginValidationError",
            "fake_invalid: hook_failed: ConfigError: the name of a family must match [a-z][a-z0-9_]*; got 'Not A Name'.",
            "fake_newer: rejected: medgen_families: 'fake_future' needs plugin API 99",
        ):
            assert line in done.stdout

    def test_doctor_of_one_shows_its_traceback(self, seven):
        done = seven.medgen("doctor", "fake_raising")
        assert done.returncode == 1
        assert "Traceback" in done.stdout
        assert "fake_raising" in done.stdout
        assert "line 5, in medgen_families" in done.stdout

    def test_list_warns_once_per_failure_and_lists_the_rest(self, seven):
        done = seven.medgen("list")
        assert done.returncode == 0
        names = [line.split()[0] for line in done.stdout.splitlines()[1:]]
        assert names == ["fake-duplicate/fake_vae", "fake-good/fake_vae"]
        lines = done.stderr.splitlines()
        assert len(lines) == len(fakes.BROKEN) + 1
        assert all(line.startswith("medgen: ") for line in lines)
        assert lines[-1].endswith("`medgen doctor` says why.")


class TestEnvironment:
    def test_block_is_before_import(self, site):
        site.add("fake-one", MARKED + fakes.family("one", "fake_one")).add("fake-two", MARKED + fakes.family("two", "fake_two"))
        done = site.medgen("list", MEDGEN_PLUGINS_BLOCK="fake-two")
        assert (site.path / "fake_one/imported").exists()
        assert not (site.path / "fake_two/imported").exists()
        assert "one" in done.stdout
        assert "two" not in done.stdout
        assert done.stderr == ""

    @pytest.mark.parametrize("pattern", ["fake_on*", "fake-one", "Fake.One", " fake-one , nothing"])
    def test_allow_by_entry_point_or_distribution(self, site, pattern):
        site.add("fake-one", MARKED + fakes.family("one", "fake_one")).add("fake-two", MARKED + fakes.family("two", "fake_two"))
        done = site.medgen("list", MEDGEN_PLUGINS=pattern)
        assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["one"]
        assert not (site.path / "fake_two/imported").exists()

    def test_a_blocked_family_says_so(self, site):
        site.add("fake-one", fakes.family("one", "fake_one"))
        done = site.medgen("show", "fake-one/one", MEDGEN_PLUGINS_BLOCK="fake-*")
        assert done.returncode == 3
        assert "blocked by MEDGEN_PLUGINS_BLOCK" in done.stderr
        assert site.medgen("doctor", MEDGEN_PLUGINS_BLOCK="fake-*").returncode == 0  # blocked on purpose is well

    def test_medgen_itself_is_never_left_out_by_an_allow_list(self, site):
        done = site.medgen("doctor", MEDGEN_PLUGINS="nothing")
        assert any(line.split()[:4] == ["core", "medgen", "0.1.0", "ready"] for line in done.stdout.splitlines())

    def test_strict_raises_with_the_cause(self, site):
        site.add("fake-import", fakes.SEVEN["fake-import"])
        done = site.medgen("list", MEDGEN_PLUGINS_STRICT="1")
        assert done.returncode == 3
        assert done.stderr.startswith("medgen: error: plugin fake_import (fake-import 1.0) failed (import_failed)")
        assert site.medgen("list", MEDGEN_PLUGINS_STRICT="0").returncode == 0
        debug = site.medgen("--debug", "list", MEDGEN_PLUGINS_STRICT="1")
        assert "ModuleNotFoundError: No module named 'a_module_that_nobody_has'" in debug.stderr

    def test_strict_raises_for_a_rejected_item(self, site):
        site.add("fake-newer", fakes.SEVEN["fake-newer"])
        with pytest.raises(PluginError, match="needs plugin API 99"):
            site.load(strict=True)

    def test_doctor_works_under_strict(self, site):
        site.add("fake-import", fakes.SEVEN["fake-import"])
        done = site.medgen("doctor", MEDGEN_PLUGINS_STRICT="1")
        assert done.returncode == 1
        assert "MEDGEN_PLUGINS_STRICT=1" in done.stdout


class TestDuplicates:
    @pytest.fixture
    def host(self, site):
        aliased = fakes.family("other", "fake_third", "aliases=('fake_nickname',)")
        site.add("fake-good", fakes.SEVEN["fake-good"]).add("fake-duplicate", fakes.SEVEN["fake-duplicate"]).add("fake-third", aliased)
        return site.load()[0]

    def test_names_both_distributions(self, host):
        with pytest.raises(DuplicateFamilyError) as error:
            find_family("fake_vae", host)
        assert str(error.value) == (
            "family 'fake_vae' is declared by several distributions; say which: 'fake-duplicate/fake_vae' or 'fake-good/fake_vae'."
        )

    @pytest.mark.parametrize("name", ["fake-good/fake_vae", "fake_good/fake_vae", "Fake.Good/fake_vae"])
    def test_qualified_name_picks_one(self, host, name):
        assert find_family(name, host).distribution == "fake-good"

    @pytest.mark.parametrize("name", ["fake_nickname", "fake-third/fake_nickname"])
    def test_alias(self, host, name):
        assert find_family(name, host).spec.name == "other"

    def test_a_name_goes_before_an_alias(self, site):
        site.add("fake-a", fakes.family("wanted", "fake_a")).add("fake-b", fakes.family("other", "fake_b", "aliases=('wanted',)"))
        assert find_family("wanted", site.load()[0]).distribution == "fake-a"

    def test_unknown_distribution(self, host):
        with pytest.raises(UnknownNameError, match="unknown family 'nobody/fake_vae'; did you mean 'fake_vae'"):
            find_family("nobody/fake_vae", host)

    def test_other_kinds_say_where_to_look(self, host):
        with pytest.raises(UnknownNameError, match=r"unknown metric 'x'.*medgen list --metrics"):
            find("medgen_metrics", "x", host)

    def test_command_line_exit_code(self, site, host):
        done = site.medgen("show", "fake_vae")
        assert done.returncode == 2
        assert done.stderr.startswith("medgen: error: family 'fake_vae' is declared by several distributions")


@pytest.mark.slow
def test_pip_installed_distribution(tmp_path):
    """The whole way: a source tree, pip, the command line."""
    source = tmp_path / "source"
    fakes.Site(source).add("fake-piped", fakes.family("piped", "fake_piped"))
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "fake-piped"\nversion = "3.1"\n[project.entry-points.medgen]\npiped = "fake_piped.plugin"\n'
        '[tool.setuptools]\npackages = ["fake_piped"]\n'
    )
    target = tmp_path / "target"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-build-isolation",
        "--no-deps",
        "--target",
        str(target),
        str(source),
    ]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    done = fakes.Site(target).medgen("list", "fake-piped/*")
    assert done.stderr == ""
    assert done.stdout.splitlines()[1].split()[:2] == ["piped", "fake-piped"]
