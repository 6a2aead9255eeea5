import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from privoxel.errors import ModelError
from privoxel.models.heads import Gaussian, Scalar, SoftBins

AGES = torch.tensor([47.5, 80.25, 62.0], dtype=torch.float64)
OUTPUT = torch.tensor([[50.0], [79.0], [60.5]], dtype=torch.float64)


def test_losses_of_a_scalar_are_those_of_the_framework_scan_by_scan():
    for loss, reference in (
        ("mse", functional.mse_loss),
        ("l1", functional.l1_loss),
        ("huber", functional.huber_loss),
    ):
        expected = torch.stack([reference(OUTPUT[k, 0], AGES[k]) for k in range(3)])
        torch.testing.assert_close(Scalar(loss).losses(OUTPUT, AGES), expected)


def test_a_loss_of_the_users_own_gets_predicted_and_true_values():
    head = Scalar(lambda predicted, truth: (predicted - truth).pow(4))
    torch.testing.assert_close(head.losses(OUTPUT, AGES), (OUTPUT[:, 0] - AGES) ** 4)


def test_a_standardised_output_is_turned_into_years_and_its_loss_is_in_its_own_units():
    head = Scalar(offset=62.0, scale=8.0)
    outputs = (AGES[:, None] - 62.0) / 8.0
    torch.testing.assert_close(head.ages(outputs), AGES)
    torch.testing.assert_close(head.losses(outputs + 0.5, AGES), torch.full((3,), 0.25, dtype=torch.float64))


def test_age_is_chosen_among_several_targets_by_name_or_position():
    several = torch.cat([torch.zeros(3, 1), OUTPUT.float()], dim=1)
    torch.testing.assert_close(
        Scalar(target="age", targets=("sex", "age")).ages(several), OUTPUT[:, 0].float()
    )
    torch.testing.assert_close(Scalar(target=1).ages(several), OUTPUT[:, 0].float())


def test_several_outputs_without_a_choice_are_refused():
    with pytest.raises(ModelError, match=r"needs one value per scan, got an output of shape \(3, 2\)"):
        Scalar().ages(torch.zeros(3, 2))
    with pytest.raises(ModelError, match="2 values per scan"):
        Scalar(target="age", targets=("age", "sex")).ages(torch.zeros(3, 3))
    with pytest.raises(ModelError, match="target needs a position"):
        Scalar(target="age", targets=("sex",))


def test_bin_centres_are_the_middles_of_the_published_bins():
    centres = SoftBins(42, 82).centres
    assert len(centres) == 40
    assert centres[0] == 42.5
    assert centres[-1] == 81.5


def slow_label(age, low, width, count, sigma):
    return [
        stats.norm.cdf(low + width * (k + 1), age, sigma) - stats.norm.cdf(low + width * k, age, sigma)
        for k in range(count)
    ]


def test_soft_labels_and_divergence_are_those_of_the_slow_formula():
    head = SoftBins(40, 85, width=5, sigma=3.0)
    logits = torch.randn(3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = []
    for row, age in zip(logits.numpy(), AGES.numpy(), strict=True):
        label = slow_label(age, 40, 5, 9, 3.0)
        logs = row - math.log(sum(math.exp(v) for v in row))
        expected.append(sum(y * (math.log(y) - p) for y, p in zip(label, logs, strict=True) if y > 0))
    np.testing.assert_allclose(head.losses(logits, AGES).numpy(), expected, rtol=1e-9)
    torch.testing.assert_close(
        head.labels(AGES), torch.tensor([slow_label(a, 40, 5, 9, 3.0) for a in AGES.tolist()]).double()
    )


def test_logits_log_probabilities_and_probabilities_give_the_same_age():
    logits = torch.randn(3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    head = SoftBins(40, 85, width=5)
    expected = [float((row.softmax(0) * head.centres).sum()) for row in logits]
    for given, kind in (
        (logits, "logits"),
        (logits.log_softmax(1), "logits"),
        (logits.softmax(1), "probabilities"),
    ):
        found = SoftBins(40, 85, width=5, outputs=kind).ages(given)
        np.testing.assert_allclose(found.numpy(), expected)


def test_bins_that_do_not_fit_the_output_are_refused():
    with pytest.raises(ModelError, match=r"needs 40 values per scan, got an output of shape \(3, 9\)"):
        SoftBins(42, 82).ages(torch.zeros(3, 9))
    with pytest.raises(ModelError, match="whole number of bins"):
        SoftBins(42, 82.5)


@pytest.mark.parametrize(
    ("spread", "second"),
    [("variance", [4.0, 9.0, 1.0]), ("sd", [2.0, 3.0, 1.0]), ("log_variance", np.log([4.0, 9.0, 1.0]))],
)
def test_gaussian_likelihood_is_that_of_the_normal_distribution(spread, second):
    output = torch.cat([OUTPUT, torch.tensor(np.array(second))[:, None]], dim=1)
    head = Gaussian(spread)
    expected = -stats.norm.logpdf(AGES.numpy(), OUTPUT[:, 0].numpy(), [2.0, 3.0, 1.0])
    np.testing.assert_allclose(head.losses(output, AGES).numpy(), expected)
    np.testing.assert_allclose(head.sds(output).numpy(), [2.0, 3.0, 1.0])
    np.testing.assert_allclose(head.ages(output).numpy(), OUTPUT[:, 0].numpy())


def test_faults_of_a_head_are_told_together():
    with pytest.raises(ModelError, match=r"loss needs one of mse.*scale needs.*delta needs"):
        Scalar("median", scale=0, delta=-1)
    with pytest.raises(ModelError, match="spread needs one of"):
        Gaussian("entropy")
