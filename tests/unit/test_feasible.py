import dataclasses

import numpy as np
import pytest

from privoxel.cohort.derivative import write_derivative
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.cohort.splits import draw_design
from privoxel.config import parse_config
from privoxel.errors import ConfigError, Problem, ProblemsError
from privoxel.recipes.audit import RunOptions, run_audit
from privoxel.recipes.cohorts import describe_cohort, summarise_cohort
from privoxel.recipes.feasible import check_feasible
from privoxel.recipes.plan import chosen_attacks
from privoxel.store import open_run
from tests.conftest import make_cohort


def check(cohort, members=0.5, **settings):
    config = parse_config(settings)
    design = draw_design(cohort.covariates, np.random.default_rng(1), members=members, non_members=0.5)
    check_feasible(config, [design], chosen_attacks(config), cohort)


def test_a_run_that_can_work_passes():
    check(make_cohort(24))


def test_every_reason_why_a_run_cannot_work_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        check(
            make_cohort(8),
            models=[{"name": "cnn4d"}],
            signals={"extra": ["gradient:conv99"]},
        )
    assert "at least 8 members" in str(caught.value)
    assert "cnn4d" in str(caught.value)


def test_a_signal_no_model_has_is_told_before_training():
    with pytest.raises(ConfigError, match="gradient:conv99"):
        check(make_cohort(24), signals={"extra": ["gradient:conv99"]})


def test_privacy_that_cannot_be_had_is_told_before_training():
    privacy = {"epsilon": 500.0, "delta": 1e-3, "accountant": "prv"}
    training = {"epochs": 2, "batch_size": 4}
    with pytest.raises(
        ConfigError, match=r"(?s)The run cannot work:.*'prv' needs a noise multiplier"
    ) as caught:
        check(make_cohort(40), training=training, privacy=privacy)
    assert str(caught.value).count("'prv' needs") == 1
    check(make_cohort(40), training=training, privacy=privacy | {"accountant": "auto"})
    with pytest.raises(ConfigError, match="batch_size of a private training needs at most the 20"):
        check(make_cohort(40), training={"batch_size": 30}, privacy={"noise_multiplier": 1.0})


@pytest.mark.parametrize(
    ("primary", "why"),
    [
        ("trajectory", "reads all kept snapshots, with which canaries are not observed"),
        ("movement-alignment", "reads the intervals between kept snapshots"),
        ("stability", "reads copies of scans, of which canaries have none"),
        ("lira-online", r"needs shadow models trained on each person \(2\), and none is on canaries"),
        ("centred-rmia-online", r"needs shadow models trained on each person \(1\)"),
    ],
)
def test_a_primary_attack_that_cannot_judge_canaries_is_told_before_training(primary, why):
    attacks, shadows = {"names": ["abs-error", primary]}, {"count": 8}
    with pytest.raises(
        ConfigError, match=rf"canaries\] needs another .* primary than {primary}, which {why}"
    ):
        check(
            make_cohort(40),
            attacks=attacks | {"primary": primary},
            shadows=shadows,
            canaries={"count": 12},
        )
    check(make_cohort(40), attacks=attacks, shadows=shadows, canaries={"count": 12})
    check(make_cohort(40), attacks=attacks | {"primary": primary}, shadows=shadows)


def test_nothing_is_written_for_a_run_that_cannot_work(tmp_path):
    config = parse_config({"cohort": {"participants": 6, "resolution_mm": 8.0}})
    with pytest.raises(ConfigError, match="cannot work"):
        run_audit(config, tmp_path / "run", RunOptions())
    assert not (tmp_path / "run").exists()


def test_an_attack_that_does_not_fit_every_model_cannot_be_primary():
    config = parse_config({"models": [{"name": "slice-mean"}], "attacks": {"primary": "activation"}})
    with pytest.raises(ConfigError, match="activation, which does not to slice-mean"):
        chosen_attacks(config)


def test_a_count_and_a_share_are_told_apart():
    assert parse_config({"split": {"members": 1}}).split.members == 1
    assert isinstance(parse_config({"split": {"members": 1.0}}).split.members, float)
    with pytest.raises(ConfigError, match=r"split.members"):
        parse_config({"split": {"members": 2.7}})


def test_a_report_names_no_participant_that_was_left_out(tmp_path):
    problems = (
        Problem("participants.tsv", "names sub-jones99, of whom there is no T1w image", "Add it", "jones99"),
        Problem(
            "sub-smith1/anat/sub-smith1_T1w.nii.gz", "is the file x/sub-smith1_T1w.nii.gz", "See jones.tsv"
        ),
    )
    cohort = dataclasses.replace(make_cohort(5), problems=problems)
    folder = open_run(tmp_path / "run", {}, resume=False, facts={})
    text = summarise_cohort(cohort, folder).model_dump_json()
    assert "jones" not in text
    assert "smith" not in text
    assert "no T1w image" in text


def test_faults_of_tables_and_of_voxels_are_told_together(tmp_path):
    folder = tmp_path / "bids"
    write_derivative(simulate_cohort(SimulatorConfig(seed=3, resolution_mm=10.0), 4), folder)
    table = (folder / "participants.tsv").read_text().splitlines()
    cells = table[1].split("\t")
    table[1] = "\t".join([cells[0], "n/a", *cells[2:]])
    (folder / "participants.tsv").write_text("\n".join(table))
    broken = next((folder / "sub-0004" / "anat").glob("*.nii.gz"))
    broken.write_bytes(broken.read_bytes()[:-400])
    config = parse_config({"cohort": {"kind": "real", "resolution_mm": 10.0}})
    with pytest.raises(ProblemsError, match=r"2 found") as caught:
        describe_cohort(config, folder, skip_bad=False)
    assert "has no age" in str(caught.value)
    assert "sub-0004" in str(caught.value)
    assert len(describe_cohort(config, folder, skip_bad=True)) == 3
