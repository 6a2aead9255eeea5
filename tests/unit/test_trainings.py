"""Which settings of a frontier are distinct trainings."""

from privoxel.recipes.configs import path_of
from privoxel.recipes.defending.settings import load_grid, parse_grid
from privoxel.recipes.defending.trainings import shared_trainings


def groups_of(*points, **common):
    grid = parse_grid({"points": [{"name": "undefended", "family": "none"}, *points], **common}, where="test")
    return [
        {grid.points[k].name for k in places} for places in shared_trainings(grid.points) if len(places) > 1
    ]


def setting(name, **sections):
    return {"name": name, "family": "f", **sections}


def test_of_the_demos_settings_ten_are_one_training():
    grid = load_grid(path_of("defend_demo"))
    (shared,) = (places for places in shared_trainings(grid.points) if len(places) > 1)
    assert {grid.points[k].name for k in shared} == {
        "undefended",
        "5 epochs",
        "8 epochs",
        "11 epochs",
        "stopped at a gap of 0.5 years",
        "stopped at a gap of 1.5 years",
        "last 5 epochs averaged",
        "answers rounded to 5 years",
        "answers with noise of 2 years",
        "answers clipped to 50-75 years",
    }


def test_what_plans_for_its_length_is_another_training_when_shorter():
    pruned = [setting(f"pruned {k}", training={"epochs": k}, defence={"sparsity": 0.5}) for k in (3, 4)]
    taught = [setting(f"taught {k}", training={"epochs": k}, defence={"distillation": {}}) for k in (3, 4)]
    assert groups_of(*pruned, *taught) == []
    mixed = [setting(f"mixed {k}", training={"epochs": k}, defence={"mixup": 0.2}) for k in (3, 4)]
    assert groups_of(*mixed) == [{"mixed 3", "mixed 4"}]


def test_private_trainings_share_noise_only_if_it_follows_from_the_seed():
    def private(randomness, **noise):
        privacy = {"randomness": randomness, **noise}
        return [setting(f"{randomness} {k}", training={"epochs": k}, privacy=privacy) for k in (3, 4)]

    assert groups_of(*private("secret", noise_multiplier=1.0)) == []
    assert groups_of(*private("seeded", epsilon=3.0)) == []
    assert groups_of(*private("seeded", noise_multiplier=1.0)) == [{"seeded 3", "seeded 4"}]


def test_epochs_of_the_model_count_as_those_of_the_training():
    assert groups_of(setting("short", model={"epochs": 2})) == [{"undefended", "short"}]
