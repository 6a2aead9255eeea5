import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from privoxel.cohort import brain
from privoxel.cohort.anatomy import FIELD_LATTICE, GROWTH_MM, MAP_LATTICE, load_maps
from privoxel.cohort.base import Grid
from privoxel.cohort.demographics import Deviations
from privoxel.cohort.effects import Ageing, Individuality, Site
from privoxel.cohort.simulated import (
    SimulatorConfig,
    TissueMaps,
    demographics,
    simulate_cohort,
    tissue_maps,
)
from privoxel.errors import CohortError, ConfigError

COARSE = SimulatorConfig(seed=7, resolution_mm=6.0)
PEOPLE = 150


@lru_cache(maxsize=1)
def tissue_volumes():
    """Millilitres of each tissue (participants, tissues) of 150 participants at 6 mm."""
    maps = [tissue_maps(COARSE, n) for n in range(1, PEOPLE + 1)]
    return np.array([[m.sum(dtype=np.float64) * 0.216 for m in one] for one in maps])


@lru_cache(maxsize=1)
def ages():
    return np.array([demographics(COARSE, n).age for n in range(1, PEOPLE + 1)])


@lru_cache(maxsize=1)
def images():
    cohort = simulate_cohort(COARSE, PEOPLE)
    return np.stack([cohort.volume(row) for row in range(len(cohort))])


def percent_per_year(tissue):
    volumes = tissue_volumes()[:, TissueMaps._fields.index(tissue)]
    slope, mean = np.polyfit(ages() - ages().mean(), volumes, 1)
    return 100 * slope / mean


def correlation(a, b):
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def aged(participant, brain_age, config=COARSE):
    """One participant at another brain age, without own deviations from the curves."""
    who = demographics(config, participant)
    none = Deviations(*[0.0] * len(Deviations._fields))
    return replace(who, age=brain_age, brain_age_gap=0.0, deviations=none)


# --- cohort ---


def test_a_cohort_has_one_row_a_session_in_participant_order():
    cohort = simulate_cohort(replace(COARSE, sessions=2), [7, 3])
    assert [str(s) for s in cohort.covariates.scans] == [
        "sub-0007_ses-1", "sub-0007_ses-2", "sub-0003_ses-1", "sub-0003_ses-2",
    ]  # fmt: skip
    assert cohort.is_simulated
    assert cohort.covariates.age[0] == cohort.covariates.age[1] == demographics(COARSE, 7).age


def test_a_count_names_participants_from_one_without_session():
    cohort = simulate_cohort(COARSE, 3)
    assert [str(s) for s in cohort.covariates.scans] == ["sub-0001", "sub-0002", "sub-0003"]


@pytest.mark.parametrize("resolution", [3.0, 4.0, 6.0, 7.5])
def test_volumes_are_z_scored_float32_on_the_grid(resolution):
    cohort = simulate_cohort(SimulatorConfig(seed=7, resolution_mm=resolution), [5])
    volume = cohort.volume(0)
    assert volume.shape == Grid.mni(resolution).shape
    assert volume.dtype == np.float32
    assert volume.mean(dtype=np.float64) == pytest.approx(0, abs=1e-4)
    assert volume.std(dtype=np.float64) == pytest.approx(1, abs=1e-4)


def test_intensities_are_positive_in_the_brain_and_zero_outside():
    cohort = simulate_cohort(COARSE, [5])
    intensity = cohort.source.intensity(0)
    truth = tissue_maps(COARSE, 5)
    brain_share = truth.grey + truth.white + truth.fluid
    assert intensity.min() == 0
    assert (intensity[brain_share > 0.9] > 0).all()
    assert (intensity[brain_share == 0] == 0).all()


def test_the_paper_s_grid_is_simulated_natively():
    cohort = simulate_cohort(SimulatorConfig(seed=7, resolution_mm=2.0), [7])
    assert cohort.volume(0).shape == (91, 109, 91)


def test_a_row_outside_the_cohort_is_refused():
    with pytest.raises(IndexError, match="rows 0 to 2, got 3"):
        simulate_cohort(COARSE, 3).volume(3)


@pytest.mark.parametrize(
    ("subjects", "message"),
    [(0, "at least 1 participant"), ([], "at least 1"), ([1, 1], "1 distinct"), ([0], "lowest 0")],
)
def test_participant_numbers_that_make_no_cohort_are_refused(subjects, message):
    with pytest.raises(CohortError, match=message):
        simulate_cohort(COARSE, subjects)


def test_every_fault_of_a_configuration_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        SimulatorConfig(
            seed=-1,
            resolution_mm=0.5,
            sessions=0,
            sites=(Site("A", 0.0), Site("A", 1.0)),
            ageing=Ageing(sulci_spread=-1),
        )
    for part in ("seed", "resolution_mm", "session", "weights", "distinct site", "sulci_spread"):
        assert part in str(caught.value)


def test_the_fingerprint_changes_with_anything_a_voxel_follows_from():
    variants = [
        simulate_cohort(COARSE, 3),
        simulate_cohort(COARSE, [1, 2, 4]),
        simulate_cohort(replace(COARSE, seed=8), 3),
        simulate_cohort(replace(COARSE, ageing=Ageing(sulci_spread=0.1)), 3),
        simulate_cohort(replace(COARSE, resolution_mm=4.0), 3),
    ]
    assert len({cohort.fingerprint for cohort in variants}) == len(variants)
    assert simulate_cohort(COARSE, 3).fingerprint == variants[0].fingerprint


# --- purity ---


def test_a_participant_alone_or_in_any_order_has_the_same_voxels():
    cohort = simulate_cohort(COARSE, 9)
    backwards = {row: cohort.volume(row) for row in (8, 3, 6)}
    np.testing.assert_array_equal(simulate_cohort(COARSE, [7]).volume(0), backwards[6])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cohort)).volume(3), backwards[3])  # noqa: S301 - ours


def test_voxels_do_not_depend_on_the_number_of_threads_or_the_process():
    program = (
        "import hashlib, torch; torch.set_num_threads(2)\n"
        "from privoxel.cohort.simulated import *\n"
        "cohort = simulate_cohort(SimulatorConfig(seed=7, resolution_mm=4.0), [3, 7])\n"
        "print(hashlib.sha256(cohort.volume(1).tobytes()).hexdigest())"
    )
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    elsewhere = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], env=os.environ | threads, capture_output=True, text=True, check=True
    ).stdout
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        here = simulate_cohort(SimulatorConfig(seed=7, resolution_mm=4.0), 7).volume(6)
    finally:
        torch.set_num_threads(before)
    assert hashlib.sha256(here.tobytes()).hexdigest() == elsewhere.strip()


# --- identity ---


def test_no_two_participants_are_alike():
    flat = images()[:60].reshape(60, -1)
    alike = np.corrcoef(flat) - np.eye(60)
    assert alike.max() < 0.985


def test_rescans_differ_but_are_closer_than_any_strangers():
    twice = replace(COARSE, sessions=2)
    volumes = np.stack([simulate_cohort(twice, 12).volume(row).ravel() for row in range(24)])
    alike = np.corrcoef(volumes)
    rescans = alike[np.arange(0, 24, 2), np.arange(1, 24, 2)]
    strangers = alike[np.arange(24)[:, None] // 2 != np.arange(24)[None] // 2]
    assert rescans.max() < 0.9999
    assert rescans.min() > strangers.max()


def test_a_rescan_keeps_the_anatomy_and_moves_the_head():
    first, second = (tissue_maps(replace(COARSE, sessions=2), 4, session) for session in (1, 2))
    for one, other in zip(first[:3], second[:3], strict=True):
        assert one.sum() == pytest.approx(other.sum(), rel=0.02)
    assert not np.array_equal(first.grey, second.grey)


def test_participant_7_is_the_same_person_at_2_and_4_mm():
    fine, coarse = ({n: at(resolution, n) for n in (7, 8, 9)} for resolution in (2.0, 4.0))
    for tissue in ("grey", "white", "fluid"):
        same = [correlation(getattr(fine[n], tissue), getattr(coarse[n], tissue)) for n in fine]
        others = [
            correlation(getattr(fine[n], tissue), getattr(coarse[m], tissue))
            for n in fine
            for m in fine
            if n != m
        ]
        assert min(same) > 0.93
        assert max(others) < min(same) - 0.05


def at(resolution, participant):
    """Tissue maps sampled at the centres of the 4 mm voxels, those of 2 mm averaged over them before."""
    maps = tissue_maps(SimulatorConfig(seed=7, resolution_mm=resolution), participant)
    if resolution == 4.0:
        return maps
    # the 4 mm centres (−80 + 4 i) are 2 mm centres too: average with the binomial weights 1, 2, 1
    return TissueMaps(*(halved(m) for m in maps))


def halved(volume):
    for axis, first in enumerate((5, 7, 0)):
        padded = np.pad(np.moveaxis(volume, axis, 0), ((1, 2), (0, 0), (0, 0)))
        smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        count = (40, 48, 40)[axis]
        volume = np.moveaxis(smooth[first : first + 2 * count : 2], 0, axis)
    return volume


def test_without_individuality_everyone_has_the_template_s_shape():
    plain = replace(COARSE, individuality=Individuality(strength=0.0, scale=0.0), brain_age_sd=0.0)
    one, other = (brain.shape(plain, replace(aged(n, 60.0, plain), sex="F")) for n in (1, 2))
    np.testing.assert_array_equal(one, other)


# --- folding ---


@pytest.mark.parametrize("brain_age", [45.0, 62.0, 88.0])
def test_no_shape_folds_even_at_the_oldest_brain_age(brain_age):
    for participant in (1, 2, 3):
        displacement = brain.shape(COARSE, aged(participant, brain_age))[:3]
        slopes = [np.stack(np.gradient(component, FIELD_LATTICE.spacing_mm)) for component in displacement]
        jacobian = np.moveaxis(np.stack(slopes), (0, 1), (-2, -1)) + np.eye(3)
        inside = MAP_LATTICE.sample(load_maps().tissue[2:3], FIELD_LATTICE.points())[0] > 0.5
        folded = np.linalg.det(jacobian).ravel()[inside] <= 0
        assert folded.mean() < 1e-3


def test_wanted_ventricular_volume_is_capped_at_the_last_knot():
    log_volume = load_maps().log_volume[1]
    assert brain.ventricular_travel(log_volume, 5.0) == GROWTH_MM[-1]
    assert brain.ventricular_travel(log_volume, float(log_volume[3])) == pytest.approx(GROWTH_MM[3])


# --- ageing ---


@pytest.mark.parametrize(
    ("tissue", "lowest", "highest"),
    [
        ("ventricles", 2.2, 4.0),
        ("fluid", 1.5, 3.5),
        ("grey", -0.65, -0.25),
        ("white", -0.4, -0.05),
        ("hippocampus", -1.0, -0.25),
        ("lesions", 1.5, 7.0),
    ],
)
def test_each_volume_changes_with_age_as_in_the_literature(tissue, lowest, highest):
    assert lowest < percent_per_year(tissue) < highest


@lru_cache(maxsize=1)
def volumes_by_age():
    """Millilitres at brain ages 50, 60, 70, 80 of one typical participant at 6 mm."""
    found = []
    for brain_age in (50.0, 60.0, 70.0, 80.0):
        who = aged(5, brain_age)
        positions, patterns = brain.warped(COARSE, who, 1)
        shown = brain.tissue(COARSE, who, positions, patterns)
        landmarks = MAP_LATTICE.sample(brain.domain(6.0).landmarks, positions)
        found.append([m.sum(dtype=np.float64) for m in (shown.grey, shown.white, shown.lesions, *landmarks)])
    return np.array(found).T


def test_white_matter_loss_accelerates():
    white = volumes_by_age()[1]
    losses = np.diff(white)
    assert losses[2] < losses[0] < 0.01 * white[0]


def test_hippocampal_loss_is_half_to_one_and_a_half_percent_a_year_after_60():
    hippocampi = volumes_by_age()[3]
    yearly = 100 * np.log(hippocampi[3] / hippocampi[1]) / 20
    assert -1.3 < yearly < -0.5
    assert yearly < 100 * np.log(hippocampi[1] / hippocampi[0]) / 10 < 0


def test_ventricles_of_one_person_grow_by_about_three_percent_a_year():
    ventricles = volumes_by_age()[4]
    assert 2.2 < 100 * np.log(ventricles[2] / ventricles[0]) / 20 < 4


def test_lesions_multiply_with_age():
    lesions = volumes_by_age()[2]
    assert (np.diff(lesions) > 0).all()
    assert lesions[3] > 2 * lesions[0]


def test_cortex_gives_way_to_fluid_visibly_at_4_mm():
    config = SimulatorConfig(seed=7, resolution_mm=4.0)
    young, old = (brain.image(config, aged(5, age, config), 1) for age in (47.0, 78.0))
    truth = tissue_maps(config, 5)
    sulci = (truth.fluid > 0.15) & (truth.grey > 0.3) & (truth.ventricles < 0.01)
    assert sulci.sum() > 1000
    darker = (old[sulci] / young[sulci]).mean()
    assert darker < 0.95


def test_age_can_be_read_from_images_but_not_better_than_the_brain_age_deviation_allows():
    flat = images().reshape(PEOPLE, -1).astype(np.float64)
    errors = cross_validated_ridge(flat - flat.mean(axis=0), ages())
    null = np.abs(ages() - ages().mean()).mean()
    floor = 2.5 * np.sqrt(2 / np.pi)
    assert floor < np.abs(errors).mean() < 0.93 * null


def cross_validated_ridge(features, target):
    """Errors of five-fold kernel ridge, penalty fixed beforehand at a tenth of the mean eigenvalue sum."""
    kernel = features @ features.T
    penalty = 0.1 * np.trace(kernel) / len(kernel)
    errors = np.empty(len(target))
    folds = np.arange(len(target)) % 5
    for fold in range(5):
        train, test = folds != fold, folds == fold
        mean = target[train].mean()
        ridged = kernel[np.ix_(train, train)] + penalty * np.eye(train.sum())
        weights = np.linalg.solve(ridged, target[train] - mean)
        errors[test] = kernel[np.ix_(test, train)] @ weights + mean - target[test]
    return errors


def test_true_volumes_predict_age_well_below_the_null():
    features = np.column_stack([np.log(tissue_volumes()), np.ones(PEOPLE)])
    coefficients, *_ = np.linalg.lstsq(features, ages(), rcond=None)
    mae = np.abs(features @ coefficients - ages()).mean()
    assert 1.9 < mae < 4.0


# --- scanner ---


def test_sites_differ_in_contrast_and_noise():
    who = aged(5, 60.0)
    scans = [brain.image(COARSE, replace(who, site=site.label), 1) for site in COARSE.sites]
    scaled = [scan / scan.mean() for scan in scans]
    assert np.abs(scaled[0] - scaled[1]).max() > 0.05
    assert np.abs(scaled[0] - scaled[2]).max() > 0.05


def test_noise_has_the_spread_asked_for():
    who, quiet = aged(5, 60.0), replace(COARSE, acquisition=replace(COARSE.acquisition, noise=0.0))
    loud = replace(COARSE, acquisition=replace(COARSE.acquisition, noise=0.05))
    silent = brain.image(quiet, who, 1)
    inside = silent > 0.8 * silent.max()
    difference = (brain.image(loud, who, 1) - silent)[inside]
    gain = 1000 * np.exp(0.1 * 2)
    assert 0.5 < difference.std() / (0.05 * (2 / 6) ** 0.75 * gain) < 2
