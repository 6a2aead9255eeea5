"""Asking a model about every scan: nothing lost, nobody asked twice, faults named."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from privoxel.errors import ModelError
from privoxel.models.callables import CallablePredictor, predictor_of
from privoxel.progress import Silent
from privoxel.signals.answers import KeptAnswers, ask
from privoxel.signals.augmentation import Copies, shifted
from tests.brought_models import MeanNet, expected, volumes

SCANS = volumes(11)


@dataclass
class Asked:
    """A model that remembers how many scans it was asked about, and fails on some."""

    bad: tuple[int, ...] = ()
    nan: tuple[int, ...] = ()
    stop_after: int = 10**9
    seen: list[int] = field(default_factory=list)

    def __call__(self, batch):
        rows = [int(np.flatnonzero((scan == SCANS).all(axis=(1, 2, 3, 4)))[0]) for scan in batch]
        if set(rows) & set(self.bad):
            raise RuntimeError("cannot be read")
        self.seen += rows
        if len(self.seen) > self.stop_after:
            raise KeyboardInterrupt
        return np.where(np.isin(rows, self.nan), np.nan, expected(batch))


def asked(model, kept, **options):
    predictor = CallablePredictor(model, "m") if isinstance(model, Asked) else predictor_of(model, "m")
    return ask(predictor, lambda rows: SCANS[rows], kept, batch_size=4, progress=Silent(), **options)


@pytest.fixture
def kept(tmp_path):
    return KeptAnswers(tmp_path / "state" / "answers.txt", [f"p-{k}" for k in range(len(SCANS))])


def test_every_scan_has_its_own_answer(kept):
    answers = asked(Asked(), kept)
    np.testing.assert_allclose(answers.prediction, expected(SCANS), atol=1e-5)
    assert not answers.problems


def test_bad_scans_are_named_and_cost_no_other(kept):
    answers = asked(Asked(bad=(5,), nan=(9,)), kept)
    assert set(answers.problems) == {5, 9}
    assert "cannot be read" in answers.problems[5]
    assert answers.problems[9] == "the model's answer is not finite"
    good = np.setdiff1d(np.arange(11), [5, 9])
    np.testing.assert_allclose(answers.prediction[good], expected(SCANS)[good], atol=1e-5)
    assert np.isnan(answers.prediction[[5, 9]]).all()


def test_after_an_interruption_only_the_rest_is_asked(kept):
    with pytest.raises(KeyboardInterrupt):
        asked(Asked(stop_after=14), kept)  # 4 + 4 + 1 of the first batch and its checks, then 4
    second = Asked()
    answers = asked(second, kept)
    assert 4 <= len(kept.read(1)) == 11
    assert not {0, 1, 2, 3} & set(second.seen)
    np.testing.assert_allclose(answers.prediction, expected(SCANS), atol=1e-5)


def test_a_torn_line_is_asked_again_and_spoils_no_other(kept):
    asked(Asked(), kept)
    text = kept.path.read_text()
    kept.path.write_text(text[:-5])
    again = Asked()
    answers = asked(again, kept)
    assert set(again.seen) == {10}
    np.testing.assert_allclose(answers.prediction, expected(SCANS), atol=1e-5)
    assert len(kept.read(1)) == 11


def test_predictions_on_copies_are_those_of_shifted_volumes(kept):
    answers = asked(MeanNet(), kept, kinds=(Copies.SHIFT,))
    copies = answers.copies["augmented:shift"]
    steps = [(axis, step) for axis in (0, 1, 2) for step in (-1, 1)]
    for k, (axis, step) in enumerate(steps):
        moved = shifted(torch.from_numpy(SCANS), axis, step).numpy()
        np.testing.assert_allclose(copies[:, k], expected(moved), atol=1e-4)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (MeanNet(dropout=0.5), r"whenever it is asked.*no dropout"),
        (MeanNet(norm=True), r"whatever other scans are in the batch.*batch normalisation"),
    ],
)
def test_a_model_left_in_training_mode_is_found(kept, net, message):
    torch.manual_seed(0)
    predictor = predictor_of(net, "m")
    net.train()
    with pytest.raises(ModelError, match=message):
        ask(predictor, lambda rows: SCANS[rows] * 3, kept, batch_size=4, progress=Silent())


def test_a_model_that_fails_on_everything_is_told_at_once(kept):
    model = Asked(bad=tuple(range(11)))
    with pytest.raises(ModelError, match=r"failed on each of the first 4 scans: .*cannot be read"):
        asked(model, kept)
    assert not kept.path.exists() or not kept.read(1)
