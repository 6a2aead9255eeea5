"""The null targets are what they are said to be: trained networks and their true gradients."""

import numpy as np
import torch

from tests.null_targets import (
    MEAN_AGE,
    SD_AGE,
    Setting,
    draw_people,
    forward,
    gradients,
    null_targets,
    train,
)

SMALL = Setting(members=9, non_members=14, trained_on=12, references=4, shadow=3, steps=40)


def test_gradients_are_those_of_differentiating_each_person_alone():
    rng = np.random.default_rng(0)
    people = draw_people(7, 0.0, rng)
    weights = train([draw_people(size, 0.0, rng) for size in (11, 8)], 10, 0)
    volumes, ages = torch.from_numpy(people.volumes).float(), torch.from_numpy(people.age).float()
    found = gradients(weights, volumes.expand(2, -1, -1), ages)
    for model in range(2):
        for person in range(7):
            mine = [weight[model : model + 1].clone().requires_grad_(True) for weight in weights]
            output = forward(mine, volumes[None, person : person + 1])[-1].squeeze()
            (MEAN_AGE + SD_AGE * output - ages[person]).square().backward()
            for place, name in ((0, "conv1"), (2, "conv6"), (4, "output")):
                mine_is = mine[place].grad[0]
                got = found[f"gradient:{name}"][model, person].reshape(mine_is.shape)
                torch.testing.assert_close(got, mine_is, rtol=1e-4, atol=1e-3)
            norms = torch.stack([weight.grad.norm() for weight in mine])
            torch.testing.assert_close(found["gradient-norms"][model, person], norms, rtol=1e-4, atol=1e-3)


def test_a_network_does_not_depend_on_those_trained_beside_it():
    rng = np.random.default_rng(1)
    few, many, more = (draw_people(size, 0.0, rng) for size in (5, 9, 13))
    beside_many, beside_more = train([few, many], 15, 3), train([few, more], 15, 3)
    for first, second in zip(beside_many, beside_more, strict=True):
        torch.testing.assert_close(first[0], second[0])
        assert not torch.allclose(first[1], second[1])


def test_the_members_are_older_by_the_shift_and_references_have_seen_half_of_everyone():
    (target,) = null_targets(
        Setting(members=400, non_members=400, references=4, steps=2, shift=5.0), range(1)
    )
    age, members = target.table.age, target.table.is_member()
    assert members.sum() == 400
    assert abs(age[members].mean() - age[~members].mean() - 5.0) < 1.5
    assert (target.references.membership.sum(axis=0) == 2).all()
    assert (np.sort(np.unique(target.shadow.membership)) == [-1, 0, 1]).all()


def test_targets_are_the_same_whenever_the_same_seeds_are_trained_together():
    first, again = null_targets(SMALL, range(3)), null_targets(SMALL, range(3))
    for a, b in zip(first, again, strict=True):
        for name in a.table.values:
            np.testing.assert_array_equal(a.table.read(name), b.table.read(name))
