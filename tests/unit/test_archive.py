from pathlib import Path

import numpy as np
import pytest

from privoxel.evaluation.archive import Archive, TargetScores
from privoxel.evaluation.scored import Evaluated
from tests.scores import Design, simulate


def target(seed: int, controls: tuple[str, ...] = ("null",)) -> TargetScores:
    rng = np.random.default_rng(seed)
    first = simulate(Design(members=5, non_members=7, repeats=3, fraction=0.6), rng)
    norms = rng.normal(size=12)
    norms[3] = np.nan
    return TargetScores(
        age=rng.uniform(45, 80, 12),
        prediction=rng.uniform(45, 80, 12),
        gradient_norm=norms,
        members=first.members,
        participants=first.participants,
        evaluated={"threshold": first, "prediction+label": first},
        controls=dict.fromkeys(controls, first),
    )


def assert_same(first: Evaluated, second: Evaluated) -> None:
    for key in ("scores", "thresholds", "members", "participants"):
        np.testing.assert_array_equal(getattr(first, key), getattr(second, key))


@pytest.mark.parametrize("controls", [("null", "covariates_only"), ()])
def test_an_archive_comes_back_as_it_was_saved(tmp_path: Path, controls):
    path = tmp_path / "scores.npz"
    pictures = np.random.default_rng(0).integers(0, 255, (2, 3, 8, 9), dtype=np.uint8)
    saved = Archive(
        {"cnn3d-0": target(0, controls), "slice/mean 1": target(1)}, pictures, ("a member", "naïve")
    )
    saved.save(path)
    loaded = Archive.load(path)
    assert list(loaded.targets) == list(saved.targets)
    assert loaded.captions == saved.captions
    np.testing.assert_array_equal(loaded.slices, pictures)
    for name, before in saved.targets.items():
        after = loaded.targets[name]
        for key in ("age", "prediction", "gradient_norm", "members", "participants"):
            np.testing.assert_array_equal(getattr(after, key), getattr(before, key))
        for kind in ("evaluated", "controls"):
            assert list(getattr(after, kind)) == list(getattr(before, kind))
            for attack, scores in getattr(before, kind).items():
                assert_same(getattr(after, kind)[attack], scores)


def test_an_archive_without_pictures_has_none(tmp_path: Path):
    Archive({"cnn3d-0": target(2)}).save(tmp_path / "scores.npz")
    loaded = Archive.load(tmp_path / "scores.npz")
    assert loaded.slices is None
    assert loaded.captions == ()


def test_the_file_is_written_under_exactly_the_name_given(tmp_path: Path):
    Archive({}).save(tmp_path / "scores.archive")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.archive"]
    assert Archive.load(tmp_path / "scores.archive").targets == {}


def test_nothing_in_the_file_needs_unpickling(tmp_path: Path):
    Archive({"cnn3d-0": target(3)}).save(tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as stored:
        assert all(stored[key].dtype != object for key in stored)
