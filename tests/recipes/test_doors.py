"""The doors of ``privoxel audit``: models that are asked, from the command line and from Python."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

import privoxel
from privoxel.cohort.base import Grid
from privoxel.cohort.features import choose_columns, load_features
from privoxel.errors import ConfigError, ModelError, ProblemsError
from privoxel.evaluation.results import Results
from privoxel.models.predictor import FileFormat
from privoxel.recipes.brought_settings import BroughtAudit
from privoxel.recipes.doors import open_door
from privoxel.recipes.given import Given, grid_for, name_of, open_predictor
from privoxel.recipes.tabular import note_on_missing
from tests.brought_models import write_linear_onnx, write_onnx
from tests.conftest import ArrayVolumes, make_cohort
from tests.niftis import blob, image_path, write_image, write_lines
from tests.recipes.commands import call

QUICK = BroughtAudit(primary="abs-error", attacks=("abs-error",))
COHORT = make_cohort(80)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Cache volumes in the test's own folder."""
    monkeypatch.setenv("PRIVOXEL_CACHE", str(tmp_path / "cache"))


def brightness(batch):
    """Say the age that the bright corner of the volumes of ``make_cohort`` shows."""
    return 62.0 + 8.0 * batch[:, 0, :4, :5, :4].mean(axis=(1, 2, 3), dtype=np.float64)


def members_of(cohort):
    return cohort.covariates.participants[::2]


def audited(tmp_path, model=brightness, cohort=COHORT, options=QUICK, **more):
    more.setdefault("members", members_of(cohort))
    return privoxel.audit(model, cohort, output=tmp_path / "run", options=options, **more)


def test_a_function_is_audited_on_a_cohort_in_memory(tmp_path):
    outcome = audited(tmp_path)
    (target,) = outcome.results.targets
    assert target.name == "brightness"
    assert (target.n_members, target.n_non_members) == (40, 40)
    error = np.abs(brightness(COHORT.batch(range(80))) - COHORT.covariates.age)
    # cached volumes are in half precision
    assert target.utility.members == pytest.approx(error[::2].mean(), abs=0.02)
    assert target.utility.non_members == pytest.approx(error[1::2].mean(), abs=0.02)
    assert outcome.report.exists()


@pytest.mark.parametrize("form", ["mask", "scan mask", "cohort", "file"])
def test_members_may_be_a_mask_a_cohort_or_a_file(tmp_path, form):
    cohort = make_cohort(20, sessions=2)
    inside = np.arange(20) % 2 == 0
    listed = write_lines(tmp_path / "members.txt", *members_of(cohort))
    members = {
        "mask": inside,
        "scan mask": np.repeat(inside, 2),
        "cohort": cohort.select(np.repeat(inside, 2)),
        "file": str(listed),
    }[form]
    (target,) = audited(tmp_path, cohort=cohort, members=members).results.targets
    assert (target.n_members, target.n_non_members) == (10, 10)
    assert "count as non-members" in target.design["groups"]


@pytest.mark.parametrize("sides", ["ids and file", "file and ids", "mask and cohort", "folder and ids"])
def test_members_and_others_may_each_be_said_in_their_own_way(tmp_path, sides):
    people = COHORT.covariates.participants
    inside, outside = list(people[:30]), list(people[30:50])
    images = tmp_path / "images"
    images.mkdir()
    for name in inside:
        (images / f"sub-{name}_T1w.nii.gz").touch()
    members, others = {
        "ids and file": (inside, write_lines(tmp_path / "others.txt", *outside)),
        "file and ids": (str(write_lines(tmp_path / "members.txt", *inside)), outside),
        "mask and cohort": (np.isin(people, inside), COHORT.select(np.isin(people, outside))),
        "folder and ids": (images, outside),
    }[sides]
    (target,) = audited(tmp_path, members=members, non_members=others).results.targets
    assert (target.n_members, target.n_non_members) == (30, 20)


def two_ages(batch):
    return np.stack([brightness(batch), np.zeros(len(batch))], axis=1)[:, ::-1]


def test_from_python_too_the_target_is_chosen_among_several_outputs(tmp_path):
    outcome = audited(tmp_path, model=two_ages, target=1)
    error = np.abs(brightness(COHORT.batch(range(80))) - COHORT.covariates.age)
    assert outcome.results.targets[0].utility.members == pytest.approx(error[::2].mean(), abs=0.02)


def test_from_python_a_place_is_read_as_it_is_told(tmp_path, monkeypatch):
    seen = {}

    def load(path, /, **how):
        seen.update(how, path=path)
        return COHORT

    monkeypatch.setattr("privoxel.cohort.bids.load_cohort", load)
    how = {"resolution": 4, "normalise": "brain", "root": "r"}
    people = list(members_of(COHORT))
    privoxel.audit(brightness, "bids", members=people, output=tmp_path / "run", options=QUICK, **how)
    assert (seen["grid"], seen["normalise"], seen["root"]) == (Grid.mni(4), "brain", Path("r"))
    assert seen["path"] == Path("bids")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resolution": 4, "root": "r"}, "cohort as a path where resolution, root is given"),
        ({"normalise": "none"}, "where normalise is given"),
        ({"weights": "w.pt"}, "needs package.module:factory or a bundle's folder where weights= is given"),
        ({"members": None}, "needs to know who trained the model"),
    ],
)
def test_from_python_options_without_a_use_are_refused(tmp_path, wrong, message):
    with pytest.raises(ConfigError, match=message):
        audited(tmp_path, **wrong)


def test_the_stability_attacks_run_where_they_are_asked_for(tmp_path):
    options = replace(QUICK, attacks=("abs-error", "stability", "stability-error"))
    (target,) = audited(tmp_path, options=options, stability=True).results.targets
    assert [attack.name for attack in target.attacks] == ["abs-error", "stability", "stability-error"]
    with pytest.raises(ConfigError, match="needs attacks that work on it, got stability, stability-error"):
        audited(tmp_path / "2", options=options)


def test_stability_is_refused_where_there_are_no_scans_to_move(tmp_path):
    table = write_table(tmp_path / "volumes.tsv")
    model = LinearRegression().fit(table[["GM_L", "GM_R"]].to_numpy(), table["age"])
    features = load_features(tmp_path / "volumes.tsv")
    with pytest.raises(ConfigError, match="--stability needs scans, of which there are moved copies"):
        privoxel.audit(
            model, features, members=table["participant_id"][:20], features=["gm_*"], stability=True
        )
    with pytest.raises(ConfigError, match=r"says by itself .* got --stability"):
        open_door(Given(str(tmp_path / "predictions.tsv"), stability=True), QUICK)


def failing_on(people, answer):
    """Return a model that answers scans of ``people`` with ``answer``."""
    bad = COHORT.batch(COHORT.rows_of(people)).astype(np.float16).astype(np.float32)  # as cached

    def model(batch):
        hit = (batch[:, None] == bad[None]).all(axis=(2, 3, 4, 5)).any(axis=1)
        return np.where(hit, answer, brightness(batch))

    return model


def test_a_scan_without_an_answer_is_named_and_can_be_left_out(tmp_path):
    model = failing_on(["003", "010"], np.nan)
    with pytest.raises(ProblemsError, match=r"(?s)sub-003: .*not finite.*sub-010: .*--skip-bad"):
        audited(tmp_path, model)
    kept = (tmp_path / "run" / "state" / "model" / "answers.txt").read_text().splitlines()
    assert len(kept) == 78
    assert not any("003 " in line.split()[0] for line in kept)
    results = audited(tmp_path / "again", model, options=replace(QUICK, skip_bad=True)).results
    (target,) = results.targets
    assert target.n_members + target.n_non_members == 78
    assert len(results.cohort.skipped) == 2
    assert not any("sub-0" in line for line in results.cohort.skipped)


def test_a_stopped_run_is_resumed_with_the_answers_it_had(tmp_path):
    seen = []

    def model(batch):
        seen.extend(batch)
        if len(seen) == 49:
            raise KeyboardInterrupt
        return brightness(batch)

    with pytest.raises(KeyboardInterrupt):
        audited(tmp_path, model)
    before = len(seen)
    audited(tmp_path, model, options=replace(QUICK, resume=True))
    assert before < 60
    assert len(seen) - before < 60
    with pytest.raises(privoxel.PrivoxelError, match="groups: the folder has"):
        audited(tmp_path, model, members=members_of(COHORT)[:30], options=replace(QUICK, resume=True))


def write_scans(folder, people=24):
    """Write a BIDS folder with a column ``member``; grids of 10 mm fit it."""
    rows = []
    for k in range(people):
        write_image(image_path(folder, f"{k:02d}", entities="_space-MNI152NLin2009aSym_desc-brain"), blob(k))
        rows.append(f"sub-{k:02d}\t{50 + k}\t{'FM'[k % 2]}\t{k // 2 % 2}")
    write_lines(folder / "participants.tsv", "participant_id\tage\tsex\tmember", *rows)
    return folder


def test_an_onnx_model_is_audited_from_the_command_line(monkeypatch, tmp_path, capsys):
    folder, shape = write_scans(tmp_path / "bids"), Grid.mni(10).shape
    monkeypatch.setattr("tests.brought_models.SHAPE", shape)
    model = write_onnx(tmp_path / "brain_age.onnx")
    arguments = ("audit", model, "--cohort", folder, "-o", tmp_path / "run", "-q", "--jobs", 1)
    assert call(monkeypatch, *arguments) == 2
    assert "got no grid of that shape" in capsys.readouterr().err
    assert call(monkeypatch, *arguments, "--resolution", 10, "--primary", "abs-error") == 0
    results = Results.model_validate_json((tmp_path / "run" / "results.json").read_text())
    assert results.targets[0].model == "brain_age"
    assert results.config["model"]["format"] == "ONNX"
    assert results.cohort.grid_shape == list(shape)
    assert (tmp_path / "run" / "participants_risk.tsv").exists()
    assert "sub-0" not in (tmp_path / "run" / "report.html").read_text()


def write_table(path, people=60, seed=0):
    """Write features of which two tell the age, and a text column; half of the people are members."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(50, 80, people)
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{k:03d}" for k in range(people)],
            "age": age.round(2),
            "member": np.arange(people) % 2,
            "GM_L": -age + rng.normal(0, 3, people),
            "GM_R": -age + rng.normal(0, 3, people),
            "Ventricles": age + rng.normal(0, 6, people),
            "scanner": ["A"] * people,
        }
    )
    table.to_csv(path, sep="\t", index=False)
    return table


def test_a_scikit_learn_model_is_audited_on_a_table(monkeypatch, tmp_path):
    table = write_table(tmp_path / "volumes.tsv")
    inside = table[table["member"] == 1]
    names = ["Ventricles", "GM_L"]
    model = KNeighborsRegressor(1).fit(inside[names], inside["age"])
    skops.io.dump(model, tmp_path / "knn.skops")
    arguments = ("audit", tmp_path / "knn.skops", "--cohort", tmp_path / "volumes.tsv")
    options = ("-o", tmp_path / "run", "-q", "--primary", "abs-error", "--jobs", 1, "--fail-above", 0.6)
    assert call(monkeypatch, *arguments, *options) == 1
    results = Results.model_validate_json((tmp_path / "run" / "results.json").read_text())
    (target,) = results.targets
    assert target.utility.members == pytest.approx(0.0, abs=1e-3)
    assert results.config["model"]["columns"] == ["ventricles", "gm_l"]
    assert results.verdict.outcome == "leak shown"
    card = json.loads((tmp_path / "run" / "privacy_card.json").read_text())
    assert card


def test_a_model_in_memory_and_an_onnx_one_read_the_same_table(tmp_path):
    table = write_table(tmp_path / "volumes.tsv")
    model = LinearRegression().fit(table[["GM_L", "GM_R"]].to_numpy(), table["age"])
    features = load_features(tmp_path / "volumes.tsv")
    assert features.columns == ("gm_l", "gm_r", "ventricles")
    with pytest.raises(ConfigError, match=r"needs 2 features, got 3 columns\. Name them"):
        privoxel.audit(
            model, features, members=members_of(features.cohort), output=tmp_path / "r", options=QUICK
        )
    write_linear_onnx(tmp_path / "m.onnx", model.coef_, float(model.intercept_))
    narrow = replace(features, columns=features.columns[:2], values=features.values[:, :2])
    found = [
        privoxel.audit(
            one, narrow, members=members_of(features.cohort), output=tmp_path / str(k), options=QUICK
        )
        for k, one in enumerate((model, tmp_path / "m.onnx"))
    ]
    maes = [outcome.results.targets[0].utility.members for outcome in found]
    assert maes[0] == pytest.approx(maes[1], abs=1e-3)


def test_columns_are_chosen_by_name_by_pattern_or_by_the_model(tmp_path):
    write_table(tmp_path / "volumes.tsv")
    table = load_features(tmp_path / "volumes.tsv")
    assert choose_columns(table, ("gm_*",), None, 2) == ("gm_l", "gm_r")
    assert choose_columns(table, ("Ventricles", "GM_L"), ["x"], None) == ("ventricles", "gm_l")
    assert choose_columns(table, (), ["GM_R"], 1) == ("gm_r",)
    with pytest.raises(ConfigError, match="columns of numbers called wm, got a table without them"):
        choose_columns(table, (), ["WM"], None)


def test_a_table_of_features_with_faults_is_refused_or_read_without_them(tmp_path):
    path = write_lines(
        tmp_path / "t.csv", "participant_id,age,gm", "a,60,1.5", "b,sixty,2", ",60,2", "a,61,2", "c,70,3"
    )
    with pytest.raises(ProblemsError, match=r"(?s)not a number.*no participant_id.*same participant"):
        load_features(path)
    table = load_features(path, skip_bad=True)
    assert table.cohort.covariates.participants == ("a", "c")
    assert len(table.cohort.problems) == 3


def write_cells(path, edit, people=40, features=3):
    """Write a table of random features, half of the people members, after ``edit`` of its lines of cells."""
    rng = np.random.default_rng(0)
    rows = [
        [
            f"sub-{k:02d}",
            f"{50 + k / 2:.1f}",
            str(int(k < people // 2)),
            *(f"{x:.3f}" for x in rng.normal(size=features)),
        ]
        for k in range(people)
    ]
    edit(rows)
    header = ",".join(["participant_id", "age", "member", *(f"v{k}" for k in range(features))])
    return write_lines(path, header, *(",".join(row) for row in rows))


def first_feature(names=None):
    """Return a regressor on ``v0`` and ``v1`` that says an age without reading what is missing."""
    rows = np.random.default_rng(1).normal(size=(30, 2))
    return HistGradientBoostingRegressor(max_iter=2).fit(
        rows if names is None else pd.DataFrame(rows, columns=names), 60 + 5 * rows[:, 0]
    )


@pytest.fixture
def by_name():
    return first_feature(["v0", "v1"])


def test_everything_wrong_with_a_table_of_features_is_told_at_once(tmp_path, by_name):
    def edit(rows):
        rows[3][3], rows[4][4], rows[5][3], rows[6][3], rows[7][5] = "abc", "1_0", "inf", "1e400", "text"
        rows[8][3], rows[9][3] = "", "n/a"
        rows[10][1], rows[11][2], rows[12][0] = "sixty", "maybe", ""

    path = write_cells(tmp_path / "v.csv", edit)
    skops.io.dump(by_name, tmp_path / "m.skops")
    given = Given(str(tmp_path / "m.skops"), cohort=path)
    for attempt in (
        lambda: open_door(given, QUICK),
        lambda: privoxel.audit(by_name, path, output=tmp_path / "run", options=QUICK),
    ):
        with pytest.raises(ProblemsError) as error:
            attempt()
        said = str(error.value)
        assert "v.csv lines 5, 7, 8: each has no number in the column 'v0', which the model reads" in said
        assert "v.csv line 6: has no number in the column 'v1', which the model reads" in said
        assert "v.csv line 12: has an age that is text" in said
        assert "v.csv line 13: has a member value that is neither yes nor no" in said
        assert "has no participant_id" in said
        assert "'v2'" not in said
        assert "--skip-bad" in said
    rest = open_door(given, replace(QUICK, skip_bad=True))
    assert len(rest.cohort) == 40 - 6
    assert "members" in rest.notes[-1]


def test_a_table_without_one_usable_line_is_refused(tmp_path, by_name):
    path = write_cells(
        tmp_path / "v.csv", lambda rows: [row.__setitem__(3 + n % 2, "x") for n, row in enumerate(rows)]
    )
    with pytest.raises(ProblemsError, match=r"v\.csv lines 2, 4, 6, 8, 10 and 15 more"):
        privoxel.audit(by_name, path, output=tmp_path / "run", options=replace(QUICK, skip_bad=True))


def test_ages_in_days_and_faults_of_members_are_told_together(tmp_path, by_name):
    def edit(rows):
        for row in rows:
            row[1] = str(round(float(row[1]) * 365.25))
        rows[3][2] = "maybe"

    path = write_cells(tmp_path / "v.csv", edit)
    skops.io.dump(by_name, tmp_path / "m.skops")
    with pytest.raises(
        ProblemsError, match=r"(?s)ages in days are\. Divide it by 365\.25.*neither yes nor no"
    ):
        open_door(Given(str(tmp_path / "m.skops"), cohort=path), QUICK)
    path.write_text(path.read_text().replace("member", "split"))
    with pytest.raises(ProblemsError, match=r"(?s)Divide it by 365\.25.*no column 'member'"):
        open_door(Given(str(tmp_path / "m.skops"), cohort=path), QUICK)


@pytest.mark.parametrize(
    ("lines", "said", "warned"),
    [
        (range(0), None, False),
        (
            range(5),
            "5 of 40 cells of members (12.5 %, in 5 of 20 scans) and 0 of 40 cells of non-members",
            True,
        ),
        ([1, 2, 21, 22], "2 of 40 cells of members (5.0 %, in 2 of 20 scans) and 2 of 40", False),
        (range(20), "20 of 40 cells of members (50.0 %, in 20 of 20 scans)", True),
    ],
    ids=["none", "members alone", "alike", "all members"],
)
def test_missing_cells_are_counted_by_group_and_warned_of(tmp_path, by_name, caplog, lines, said, warned):
    def edit(rows):
        rows[30][5] = ""  # which the model does not read
        for k in lines:
            rows[k][4] = "n/a"

    path = write_cells(tmp_path / "v.csv", edit)
    skops.io.dump(by_name, tmp_path / "m.skops")
    notes = " ".join(open_door(Given(str(tmp_path / "m.skops"), cohort=path), QUICK).notes)
    assert (said in notes) if said else ("missing" not in notes)
    assert ("the two groups differ in what is missing" in notes) is warned
    assert ("the two groups differ in what is missing" in caplog.text) is warned


def test_columns_that_are_missing_in_turn_are_warned_of():
    missing = np.zeros((40, 2), dtype=bool)
    missing[:10, 0] = missing[20:30, 1] = True  # as many in either group, but not the same ones
    (note,) = note_on_missing(missing, np.arange(40) < 20)
    assert "standardised difference beyond measure" not in note
    assert "Warning" in note
    assert "Warning" not in note_on_missing(missing, np.arange(40) % 2 == 0)[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Given("w.pt"), "needs the network that its weights belong to"),
        (Given("older.pt"), "needs the network that its weights belong to"),
        (Given("x.txt.gz"), "needs to be ONNX, TorchScript"),
        (Given("missing.onnx"), "needs a file, got missing.onnx"),
    ],
)
def test_files_that_are_no_models_are_refused_with_what_to_do(monkeypatch, tmp_path, given, message):
    import torch  # noqa: PLC0415 - only here

    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.zeros(2)}, "w.pt")
    torch.save({"a": torch.zeros(2)}, "older.pt", _use_new_zipfile_serialization=False)
    write_lines(tmp_path / "x.txt.gz", "nothing")
    with pytest.raises(ModelError, match=message):
        open_predictor(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("p.tsv", "--cohort", "bids"), "A table of predictions says by itself who there is"),
        (("m.onnx",), "An audit of m needs people, got no --cohort"),
        (("missing.tsv",), "missing.tsv: is not there. Correct the path"),
        (("p.tsv.gz",), "needs to be text, got .gz. Unpack it to p.tsv."),
        (("p.xlsx",), "Save it as .tsv or .csv"),
        (("a.b:c", "--cohort", "bids"), "needs a module that can be imported"),
        (("tests.brought_networks:boom", "--cohort", "bids"), "boom needs to return a network, got KeyError"),
        (("m.onnx", "--cohort", "bids", "--memory", "much"), "--memory needs a size"),
    ],
)
def test_wrong_use_is_answered_with_what_to_do(monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "audit", *arguments, "-q") == 2
    assert message in capsys.readouterr().err


def test_a_table_that_is_no_cohort_is_told_from_one_before_anyone_is_asked(tmp_path, by_name):
    people = "participant_id,age,member,predicted_age"
    predictions = write_lines(tmp_path / "p.csv", people, "a,60,1,61", "b,61,0,60")
    skops.io.dump(by_name, tmp_path / "m.skops")
    given = Given(str(tmp_path / "m.skops"), cohort=predictions)
    with pytest.raises(ConfigError, match=r"got p\.csv, a table of predictions\. Give it alone"):
        open_door(given, QUICK)
    bare = write_lines(tmp_path / "b.csv", "participant_id,age,member", "a,60,1", "b,61,0")
    with pytest.raises(ConfigError, match=r"needs scans .a column 'path'. or features"):
        open_door(replace(given, cohort=bare), QUICK)


def test_a_model_of_scans_is_not_asked_about_a_table_of_features(tmp_path):
    asked = []

    def of_scans(batch):
        asked.append(batch)
        return batch[:, 0, 0, 0, 0]

    path = write_cells(tmp_path / "v.csv", lambda _: None)
    with pytest.raises(ConfigError, match="column 'path' names their files"):
        privoxel.audit(of_scans, path, output=tmp_path / "run", options=QUICK)
    assert [batch.any() for batch in asked] == [False]
    assert not (tmp_path / "run").exists()


def test_the_grid_follows_from_what_the_model_states():
    assert grid_for((None, 1, 91, 109, 91), None).voxel_mm == 2.0
    assert grid_for((1, 1, 160, 192, 160), None).voxel_mm == 1.0
    assert grid_for(None, None).voxel_mm == 2.0
    assert grid_for((None, 1, 91, 109, 91), 4.0).voxel_mm == 4.0
    with pytest.raises(ConfigError, match="volumes of 96×96×96 voxels, got no grid of that shape"):
        grid_for((1, 1, 96, 96, 96), None)


def test_a_model_of_another_grid_is_refused_before_anything_is_read(tmp_path):
    model = write_onnx(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"needs inputs of shape any × 1 × 5 × 6 × 7 .* got scans"):
        audited(tmp_path, model)


def test_names_of_models_are_fit_for_folders():
    assert name_of("a b/c d?.onnx") == "c-d-"
    assert FileFormat.SKOPS == "skops"


def test_a_member_among_the_non_members_is_named_on_the_terminal_left_out_and_counted(tmp_path, caplog):
    values = COHORT.batch(range(80))[:, 0]
    values[79] = values[0]
    cohort = replace(COHORT, source=ArrayVolumes(values), fingerprint="a copy")
    outcome = audited(tmp_path, cohort=cohort)
    (target,) = outcome.results.targets
    assert (target.n_members, target.n_non_members) == (40, 39)
    assert "sub-000 (a member) and sub-079 (a non-member) hold the same voxels" in caplog.text
    report = outcome.report.read_text()
    assert "1 non-members are members under another name" in report
    for file in (tmp_path / "run").rglob("*.*"):
        if file.suffix in {".html", ".json", ".md", ".log", ".toml"}:
            assert "sub-079" not in file.read_text(), file
