import csv
import io

import pandas as pd
import pytest

from privoxel.evaluation.results import METRICS, Metric
from privoxel.report.tables import (
    COLUMNS,
    Footnotes,
    attack_row,
    methods_used,
    metric_cell,
    results_tsv,
    years,
)
from tests.fabricated import ATTACKS, CONTROLS, Fabrication, fabricated_run

RESULTS, _ = fabricated_run(Fabrication(targets=2, attacks=ATTACKS[:3], per_class=40, repeats=2))


def test_the_table_has_one_row_per_target_attack_and_metric():
    table = pd.read_csv(io.StringIO(results_tsv(RESULTS)), sep="\t")
    assert tuple(table.columns) == COLUMNS
    bounds = [bound for target in RESULTS.targets for loss in target.epsilon for bound in loss.bounds]
    assert len(table) == 2 * (3 + len(CONTROLS)) * len(METRICS) + len(bounds)
    assert set(table["kind"]) == {"attack", "control", "epsilon"}
    assert not table.duplicated(["target", "kind", "name", "metric", "method"]).any()


def test_bounds_on_epsilon_stand_between_what_is_shown_and_what_is_allowed():
    results = fabricated_run(Fabrication(epsilon=(0.42, 8.0)))[0]
    table = pd.read_csv(io.StringIO(results_tsv(results)), sep="\t", keep_default_na=False)
    rows = table[table["kind"] == "epsilon"]
    (loss,) = results.targets[0].epsilon
    assert rows["low"].astype(float).tolist() == [bound.epsilon for bound in loss.bounds]
    assert set(rows["high"].astype(float)) == {8.0}
    assert set(rows["value"]) == {"n/a"}
    assert rows["reason"].tolist() == [bound.assumption for bound in loss.bounds]
    assert set(rows["name"]) == {loss.attack}


def test_numbers_come_back_from_the_table_unchanged():
    table = pd.read_csv(io.StringIO(results_tsv(RESULTS)), sep="\t", dtype=str, keep_default_na=False)
    for target in RESULTS.targets:
        for attack in target.attacks:
            rows = table[(table["target"] == target.name) & (table["name"] == attack.name)].set_index(
                "metric"
            )
            for name, metric in attack.metrics.items():
                for key in ("value", "low", "high", "sd_repeats", "paper"):
                    expected = getattr(metric, key)
                    found = rows.loc[name, key]
                    assert found == "n/a" if expected is None else float(found) == expected


def test_what_is_missing_is_not_available_and_says_why():
    table = pd.read_csv(io.StringIO(results_tsv(RESULTS)), sep="\t", keep_default_na=False)
    missing = table[(table["value"] == "n/a") & (table["kind"] != "epsilon")]
    assert set(missing["metric"]) == {"tpr_at_fpr_0.001", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05"}
    assert missing["reason"].str.contains("needs at least").all()


def test_tabs_and_quotes_in_names_do_not_break_the_table():
    attack = RESULTS.targets[0].attacks[0].model_copy(update={"threat_model": 'a\tb\n"c"'})
    target = RESULTS.targets[0].model_copy(update={"attacks": [attack], "controls": [], "epsilon": []})
    text = results_tsv(RESULTS.model_copy(update={"targets": [target]}))
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert len(rows) == len(METRICS)
    assert {row["threat_model"] for row in rows} == {'a b "c"'}


@pytest.mark.parametrize(
    ("name", "metric", "text", "interval"),
    [
        ("auc", Metric(value=0.7849, low=0.744, high=0.8151), "0.78", "0.74–0.82"),
        ("balanced_accuracy", Metric(value=0.717, low=0.687, high=0.758), "71.7 %", "68.7–75.8"),
        ("tpr_at_fpr_0.05", Metric(value=0.2, low=0.1, high=0.3), "20.0 %", "10.0–30.0"),
        ("auc", Metric(value=1.0), "1.00", ""),
    ],
)
def test_a_number_has_the_digits_of_its_kind_and_its_interval(name, metric, text, interval):
    cell = metric_cell(name, metric, Footnotes())
    assert (cell.text, cell.interval, cell.note) == (text, interval, "")


def test_the_same_reason_is_one_footnote():
    footnotes = Footnotes()
    cells = [metric_cell("auc", Metric(value=None, reason=reason), footnotes) for reason in ("x", "y", "x")]
    assert [cell.note for cell in cells] == ["a", "b", "a"]
    assert footnotes.lines() == [("a", "x"), ("b", "y")]
    assert metric_cell("auc", Metric(value=None), footnotes).note == ""
    assert metric_cell("auc", None, footnotes).text == "–"


def test_a_row_keeps_the_papers_digits_and_metrics_of_no_column():
    attack = RESULTS.targets[0].attacks[2]
    metrics = {**attack.metrics, "epsilon_lower": Metric(value=0.4123, low=0.1, high=0.9)}
    row = attack_row(attack.model_copy(update={"metrics": metrics}), attack.name, Footnotes())
    assert row.is_primary
    assert row.paper == "59.90 %"
    assert row.remarks[-1] == "epsilon lower 0.41 (0.10–0.90)"


def test_methods_are_listed_once_per_kind_of_number():
    methods = dict(methods_used(RESULTS.targets))
    assert methods["AUC"] == "participant bootstrap"
    assert methods["true-positive rates"] == "exact binomial"


def test_years_have_one_decimal_or_a_dash():
    assert (years(6.25), years(None)) == ("6.2", "–")
