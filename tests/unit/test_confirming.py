"""The grid that asks again about a recommended setting."""

import pytest

from privoxel.evaluation.frontier_results import Front, Recommendation
from privoxel.evaluation.results import Metric
from privoxel.recipes.configs import path_of
from privoxel.recipes.defending.confirming import write_confirmations
from privoxel.recipes.defending.settings import load_grid


def front(name: str, confirm: str | None = "confirm-black-box.yaml") -> Front:
    chosen = Recommendation(
        name=name,
        loss=Metric(value=0.0),
        vulnerability=Metric(value=0.55),
        attack="tube",
        title="Tube",
        candidates=9,
        alike=[],
        meets_aim=False,
        loss_may_exceed=False,
        confirm=confirm,
    )
    return Front(adversary="black-box", names=[name], standings=[], left_out=[], recommendation=chosen)


@pytest.mark.parametrize("name", ["mixup 0.2", "DP, ε = 30", "augmented pose", "answers rounded to 5 years"])
def test_the_same_two_settings_meet_one_attack_on_the_next_seed(name, tmp_path):
    grid = load_grid(path_of("defend_demo"))
    write_confirmations(grid, [front(name)], tmp_path)
    again = load_grid(tmp_path / "confirm-black-box.yaml")
    assert [point.name for point in again.points] == ["undefended", name]
    assert again.reference == "undefended"
    assert again.base.seed == grid.base.seed + 1
    assert (again.base.attacks.names, again.base.attacks.primary) == (("tube",), "tube")
    by_name = {point.name: point for point in grid.points}
    for point in again.points:
        same = {"seed", "attacks", "report"}
        assert point.config.model_dump(exclude=same) == by_name[point.name].config.model_dump(exclude=same)


def test_there_is_nothing_to_confirm_where_the_reference_itself_is_chosen(tmp_path):
    grid = load_grid(path_of("defend_demo"))
    write_confirmations(grid, [front("mixup 0.2")], tmp_path)
    write_confirmations(grid, [front("undefended", None)], tmp_path)  # settings that came later changed it
    assert not list(tmp_path.iterdir())
