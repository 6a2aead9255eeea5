import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privoxel.attacks.classifiers import CLASSIFIERS, Settings, decisions
from privoxel.attacks.stacked import StackedAttack
from privoxel.errors import ConfigError


def ring(rng, scans, features=5):
    """Members lie near the origin of two features, others around them: no straight line parts them."""
    members = np.arange(scans) % 2 == 0
    values = rng.normal(0, 1, (scans, features))
    values[:, :2] *= np.where(members, 0.4, 2.0)[:, None]
    return values * [1.0, 10.0, 1.0, 0.1, 1.0], members


@pytest.mark.parametrize("kind", [kind for kind in CLASSIFIERS if kind != "logistic"])
def test_what_no_straight_line_can_part_is_parted(kind, rng):
    known, members = ring(rng, 120)
    unknown, truth = ring(rng, 201)
    assert roc_auc_score(truth, decisions(kind, known, members, unknown, Settings())) > 0.8


@pytest.mark.parametrize("kind", sorted(CLASSIFIERS))
def test_members_score_higher_and_units_hardly_matter(kind, rng):
    members = np.arange(90) % 3 == 0
    known = rng.normal(0, 1, (90, 4)) + 1.5 * members[:, None] * [1, 0, 1, 0]
    scores = decisions(kind, known, members, known[:7], Settings())
    scaled = decisions(kind, known * 1e3, members, known[:7] * 1e3, Settings())
    np.testing.assert_allclose(scaled, scores, rtol=1e-3, atol=1e-3)
    far = decisions(kind, known, members, np.array([[2.0, 0, 2.0, 0], [-2.0, 0, -2.0, 0]]), Settings())
    assert far[0] > far[1]


@pytest.mark.parametrize("kind", sorted(CLASSIFIERS))
def test_two_scans_of_each_class_and_one_feature_are_enough(kind, rng):
    members = np.array([True, False, True, False])
    assert np.isfinite(decisions(kind, rng.normal(0, 1, (4, 1)), members, np.ones((3, 1)), Settings())).all()


@pytest.mark.parametrize("kind", sorted(CLASSIFIERS))
def test_the_same_seed_gives_the_same_decisions(kind, rng):
    known, members = ring(rng, 60)
    first, second = (decisions(kind, known, members, known, Settings(seed=3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_an_unknown_classifier_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"among boosting, kernel, logistic, network, got 'forest'"):
        StackedAttack(classifiers=("kernel", "forest"))
    with pytest.raises(ConfigError, match="got none"):
        StackedAttack(classifiers=())
