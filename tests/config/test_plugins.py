import subprocess
import sys
from dataclasses import dataclass

import pytest

import finetune
from finetune.config import entry_points, plugins
from finetune.config.plugin_groups import Group
from finetune.errors import ConfigError
from tests.helpers.plugins import installer


@pytest.fixture(autouse=True)
def install(tmp_path, monkeypatch):
    yield installer(tmp_path, monkeypatch)
    entry_points.read.cache_clear()


def load(group, name):
    return plugins.load(group, name, "somewhere.key")


def test_an_entry_point_is_listed_without_import_and_loaded_at_use(install):
    install("acme", "1.2", "[finetune.datasets]\nmoons = acme_a:moons\n", "acme_a", "moons = print")
    assert "moons" in plugins.names("datasets")
    assert plugins.origin("datasets", "moons") == "acme 1.2"
    assert "acme_a" not in sys.modules
    assert load("datasets", "moons") is print


def test_names_are_found_without_tensorflow():
    code = (
        "import sys; from finetune.config import plugins;"
        "[plugins.names(group) for group in plugins.GROUPS];"
        "assert not {'tensorflow', 'keras', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest(install):
    install("acme", "1.2", "[finetune.datasets]\nmoons = acme:moons\n")
    with pytest.raises(
        ConfigError, match=r"somewhere\.key must be a dataset\. Received: moon\..*"
    ) as e:
        load("datasets", "moon")
    assert str(e.value).endswith("Did you mean moons?")
    assert plugins.origin("datasets", "moon") == ""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("moons = 1", "AttributeError: module 'acme_b' has no attribute 'absent'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise ValueError('two\\nlines')", "ValueError: two"),
    ],
)  # fmt: skip
def test_a_broken_entry_names_its_package_when_it_is_used(install, code, reason):
    sys.modules.pop("acme_b", None)
    install("acme", "1.2", "[finetune.datasets]\nmoons = acme_b:absent\n", "acme_b", code)
    assert "moons" in plugins.names("datasets")
    with pytest.raises(ConfigError) as raised:
        load("datasets", "moons")
    assert str(raised.value) == (
        "somewhere.key must be a dataset that can be imported. Received: moons of acme 1.2, which "
        f"raised {reason}. Repair the package, or remove it: pip uninstall acme."
    )


def test_an_entry_of_another_form_is_refused(install):
    install("acme", "1.2", "[finetune.policies]\nodd = acme_c:Odd\n", "acme_c", "class Odd: pass")
    with pytest.raises(
        ConfigError, match=r"Received: odd of acme 1\.2, which is class Odd\. Repair"
    ):
        load("policies", "odd")


def test_two_packages_with_one_name_are_refused_when_it_is_used(install):
    install("acme", "1.2", "[finetune.datasets]\nmoons = acme_d:moons\n", "acme_d", "moons = print")
    install("bolt", "3", "[finetune.datasets]\nmoons = bolt_d:moons\nsuns = builtins:print\n")
    assert plugins.names("datasets").count("moons") == 1
    assert load("datasets", "suns") is print
    with pytest.raises(ConfigError, match=r"which .*acme 1\.2.* both offer\. Uninstall one") as e:
        load("datasets", "moons")
    assert "bolt 3" in str(e.value)


def test_a_built_in_name_cannot_be_taken(install, monkeypatch):
    own = {"moons": "builtins:len"}
    group = Group("a dataset", "a function", callable, own)
    monkeypatch.setitem(plugins.GROUPS, "datasets", group)
    assert load("datasets", "moons") is len
    assert plugins.origin("datasets", "moons") == "finetune"
    with pytest.raises(ConfigError, match=r"moons of .*, which finetune already offers"):
        plugins.register("datasets", "moons", lambda: None)
    install("acme", "1.2", "[finetune.datasets]\nmoons = builtins:print\n")
    with pytest.raises(ConfigError, match=r"finetune and acme 1\.2 both.*pip uninstall acme\."):
        load("datasets", "moons")


def test_modules_of_a_package_are_entries(monkeypatch):
    group = Group("a number", "", callable, "finetune.config:number")
    monkeypatch.setitem(plugins.GROUPS, "datasets", group)
    assert "values" in plugins.names("datasets")
    from finetune.config.values import number

    assert load("datasets", "values") is number


def test_an_object_is_registered_and_defined_again():
    def moons():
        return 1

    plugins.register("datasets", "moons", moons)
    assert load("datasets", "moons") is moons
    assert plugins.origin("datasets", "moons") == __name__

    def again():
        return 2

    again.__qualname__ = moons.__qualname__
    plugins.register("datasets", "moons", again)  # as a cell of a notebook does
    assert load("datasets", "moons") is again
    with pytest.raises(ConfigError, match=r"Received: moons of .*, which .* already offers"):
        plugins.register("datasets", "moons", print)


def test_what_is_registered_must_have_the_form_of_its_group():
    @dataclass(frozen=True)
    class Odd:
        select = None

    @dataclass
    class Thawed:
        def problems(self, where): ...

        def select(self, weights, stage_names, where): ...

    for policy in (Odd, Thawed):
        with pytest.raises(ConfigError, match=r"odd must be a freeze policy: a frozen dataclass"):
            plugins.register("policies", "odd", policy)
    with pytest.raises(ConfigError, match=r"the name of a dataset must be letters.*'a b'"):
        plugins.register("datasets", "a b", print)


def test_a_package_may_offer_what_it_registers(install):
    code = "from finetune.config.plugins import register\ndef moons(): pass\nregister('datasets', 'moons', moons)"
    install("acme", "1.2", "[finetune.datasets]\nmoons = acme_e:moons\n", "acme_e", code)
    entry = load("datasets", "moons")
    assert load("datasets", "moons") is entry
    assert plugins.origin("datasets", "moons") == "acme 1.2"


def test_unreadable_and_unknown_groups_are_named_and_stop_nothing(install):
    install("acme", "1.2", "[finetune.datasets]\nmoons\n")
    install(
        "bolt",
        "3",
        "[finetune.policy]\nnew = bolt:new\n[finetune.datasets]\nsuns = builtins:print\n",
    )
    assert load("datasets", "suns") is print
    nameless = install("nameless", "1", "[finetune.datasets]\nstars = builtins:print\n")
    (nameless / "METADATA").unlink()
    first, third, second = plugins.problems()
    assert first.startswith("acme 1.2: unreadable entry points, ")
    assert third.startswith("nameless-1.dist-info: unreadable entry points, ")
    assert second.startswith("bolt 3: finetune.policy is none of finetune.policies, ")


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_every_built_in_entry_has_the_form_of_its_group(group):
    for offer in plugins._built_in(group):
        assert load(group, offer.name) is not None


def test_what_an_entry_raises_is_a_config_error_that_names_the_package(install):
    code = "def moons(*given):\n    raise KeyError('x')"
    install("acme", "1.2", "[finetune.datasets]\nmoons = acme_f:moons\n", "acme_f", code)
    with pytest.raises(ConfigError) as raised:
        plugins.call("datasets", "moons", "dataset.name", 1, 2)
    assert str(raised.value) == (
        "dataset.name must be a dataset that works. Received: moons of acme 1.2, which raised "
        "KeyError: 'x' (line 2 of acme_f.py). Repair the package, or remove it: pip uninstall acme."
    )


def test_an_entry_that_exits_is_a_config_error_too(install):
    code = "def moons(*given):\n    raise SystemExit(4)"
    install("acme", "1.2", "[finetune.datasets]\nmoons = acme_h:moons\n", "acme_h", code)
    with pytest.raises(ConfigError, match=r"moons of acme 1\.2, which raised SystemExit: 4"):
        plugins.call("datasets", "moons", "dataset.name", 1, 2)


def test_decorators_register_entries():
    @finetune.metric("gap", direction="min", task="single_label")
    def gap(labels, probabilities):
        return 0.5

    @finetune.dataset("moons")
    def moons(settings, seed):
        return finetune.Splits(train=([], []))

    assert load("metrics", "gap") is gap
    assert (gap.direction, gap.task, gap([], [])) == ("min", "single_label", 0.5)
    assert load("datasets", "moons") is moons
    assert plugins.origin("metrics", "gap") == __name__
    with pytest.raises(ConfigError, match="direction must be a direction. Received: up"):
        finetune.metric("other", direction="up")(len)
    with pytest.raises(ConfigError, match="compute must be a function .* Received: int"):
        finetune.metric("other")(3)  # type: ignore[arg-type]
    for decorator in (finetune.metric, finetune.policy, finetune.dataset):
        with pytest.raises(
            ConfigError, match=r"Received: function .*moons\. Choose .* in parentheses after"
        ):
            decorator(moons)
