"""The configuration of a frontier: settings one by one and as a grid, checked all at once."""

import tomllib

import pytest

from privoxel.errors import ConfigError
from privoxel.recipes.configs import path_of
from privoxel.recipes.defending.costs import Costs, within
from privoxel.recipes.defending.settings import load_grid, parse_grid

COMMON = """
[training]
epochs = 7
weight_decay = 0.5
[defence.augmentation]
mm = 2.0
"""
POINTS = """
[[points]]
name = "plain"
family = "none"
[[points]]
name = "narrow and dropped"
family = "width"
model = { width = 0.5, dropout = 0.25 }
defence.augmentation.degrees = 3.0
[[grid]]
name = "DP, ε = {value}"
family = "privacy"
setting = "privacy.epsilon"
values = [3, 0.5]
training.epochs = 9
privacy.delta = 1e-4
"""


def grid(text: str):
    return parse_grid(tomllib.loads(text), where="grid.toml")


def test_each_setting_is_the_common_ones_with_its_changes_merged_in():
    found = {point.name: point for point in grid(COMMON + POINTS).points}
    assert list(found) == ["plain", "narrow and dropped", "DP, ε = 3", "DP, ε = 0.5"]
    narrow = found["narrow and dropped"].config
    assert (narrow.models[0].width, narrow.models[0].dropout) == (0.5, 0.25)
    assert (narrow.defences.augmentation.mm, narrow.defences.augmentation.degrees) == (2.0, 3.0)
    private = found["DP, ε = 0.5"].config
    assert (private.privacy.epsilon, private.privacy.delta) == (0.5, 1e-4)
    assert (private.training.epochs, private.training.weight_decay) == (9, 0.5)
    assert found["plain"].config.privacy is None
    assert {point.config.training.threads for point in found.values()} == {1}
    assert found["DP, ε = 0.5"].folder == "dp-0.5"


def test_the_undefended_setting_is_what_the_others_are_compared_with():
    assert grid(COMMON + POINTS).reference == "plain"
    named = grid('[frontier]\nreference = "narrow and dropped"\n' + COMMON + POINTS)
    assert named.reference == "narrow and dropped"


def test_all_faulty_settings_are_named_at_once():
    text = COMMON + POINTS.replace("dropout = 0.25", "dropout = 2.0").replace("[3, 0.5]", "[3, -1]")
    with pytest.raises(ConfigError) as caught:
        grid(text)
    assert "setting 'narrow and dropped' cannot be used" in str(caught.value)
    assert "models.0.dropout" in str(caught.value)
    assert "setting 'DP, ε = -1' cannot be used" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('family = "none"', 'family = "other"'), "needs a setting of family 'none'"),
        (("narrow and dropped", "Plain"), "with different names, got 4, twice plain"),
        (('name = "DP, ε = {value}"', 'name = "DP"'), "needs {value} in it"),
        (('family = "width"', 'family = "width"\nsplit.members = 3'), "points.1.split"),
        (("privacy.epsilon", "cohort.seed"), "grid.0.setting"),
        (("[training]", '[frontier]\nreference = "nobody"\n[training]'), "reference needs the name"),
        (("[training]", '[[models]]\n[[models]]\nname = "sfcn"\n[training]'), "one model in .* got 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        grid((COMMON + POINTS).replace(*change))


def test_one_setting_is_no_grid():
    with pytest.raises(ConfigError, match="two or more settings"):
        grid('[[points]]\nname = "plain"\nfamily = "none"\n')


def test_a_file_that_extends_the_demo_has_its_settings(tmp_path):
    path = tmp_path / "larger.toml"
    path.write_text('extends = "defend_demo"\nseed = 5\n[cohort]\nparticipants = 700\n')
    larger, demo = load_grid(path), load_grid(path_of("defend_demo"))
    assert [point.changes for point in larger.points] == [point.changes for point in demo.points]
    assert (larger.base.seed, larger.base.cohort.participants) == (5, 700)
    assert larger.base.cohort.resolution_mm == demo.base.cohort.resolution_mm
    assert load_grid(path, seed=8).base.seed == 8


def test_the_demo_holds_twenty_models_of_four_families_or_more():
    demo = load_grid(path_of("defend_demo"))
    assert len(demo.points) >= 20
    assert len({point.family for point in demo.points}) >= 4


def test_a_budget_holds_the_reference_and_the_first_settings_that_fit():
    four = grid(COMMON + POINTS)
    costs = Costs(dict(zip([p.name for p in four.points], (50.0, 30.0, 100.0, 5.0), strict=True)), 0.0)
    assert within(1.0, four, costs, done=(), workers=1) == ("plain",)
    assert within(86.0, four, costs, done=(), workers=1) == ("plain", "narrow and dropped", "DP, ε = 0.5")
    assert within(35.0, four, costs, done=("plain",), workers=1)[:2] == ("plain", "narrow and dropped")
    assert within(100.0, four, costs, done=(), workers=2) == tuple(point.name for point in four.points)


def test_waiting_is_that_of_the_fullest_core():
    costs = Costs({"a": 4.0, "b": 3.0, "c": 3.0}, 0.0)
    assert costs.waiting("abc", 2) == 6.0
    assert costs.waiting("abc", 1) == 10.0
    assert costs.waiting("", 2) == 0.0
