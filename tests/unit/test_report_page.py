import html
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from privoxel.evaluation.archive import Archive
from privoxel.evaluation.results import Metric
from privoxel.report import render_report, write_report
from privoxel.report.wording import (
    cohort_title,
    control_meaning,
    control_meanings,
    design_facts,
    flat,
    group_name,
    sentence_of_rates,
)
from tests.fabricated import ATTACKS, CONTROLS, Fabrication, fabricated_run

SMALL = Fabrication(attacks=ATTACKS[:2], per_class=40, repeats=2, slices=1)
CASES = {
    "two attacks": SMALL,
    "people": Fabrication(attacks=ATTACKS[:3], per_class=40, repeats=2, slices=0, people=True, sessions=True),
    "people of eight targets": Fabrication(
        targets=4,
        models=("cnn3d", "slice-mean"),
        per_class=40,
        repeats=2,
        people=True,
        sessions=True,
        slices=0,
    ),
    "no gradient norms": Fabrication(attacks=ATTACKS[:2], per_class=40, repeats=2, gradient_norms=False),
    "no paper values": Fabrication(attacks=ATTACKS[:1], per_class=40, repeats=1),
    "refused": Fabrication(attacks=ATTACKS[:2], per_class=40, repeats=2, outcome="refused"),
    "null metrics": Fabrication(attacks=ATTACKS[:3], per_class=40, repeats=2, null_metrics=True),
    "no slices": Fabrication(attacks=ATTACKS[:2], per_class=40, repeats=2, slices=0),
    "real people": Fabrication(attacks=ATTACKS[:2], per_class=40, repeats=2, simulated=False),
    "eight targets": Fabrication(
        targets=4, models=("cnn3d", "slice-mean"), per_class=40, repeats=2, slices=0
    ),
}


class _Outline(HTMLParser):
    """Headings in order, ids, opened tags, and images without a text."""

    void = frozenset({"meta", "img", "br", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.unlabelled = 0
        self.captions = 0
        self.tables = 0

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in found:
            self.ids.append(found["id"])
        self.unlabelled += tag == "img" and not found.get("alt")
        self.unlabelled += tag == "svg" and not found.get("aria-label")
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


def outline_of(page: str) -> _Outline:
    outline = _Outline()
    outline.feed(page)
    outline.close()
    return outline


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    body = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", body)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.mark.parametrize(
    ("epsilon", "said"),
    [
        (None, "This bound shows nothing: ε is at least 0"),
        ((0.4, None), "more privacy than ε = 0.40 (at δ = 1e-06), with 95 % confidence"),
        ((0.4, None), "No upper bound is known"),
        ((0.4, 2.0), "Its accountant promises that it is at most 2.00"),
        ((2.4, 2.0), "the training does not keep its promise"),
    ],
)
def test_epsilon_is_told_from_below_and_beside_its_accountant(epsilon, said):
    case = Fabrication(attacks=ATTACKS[:1], per_class=40, repeats=1, slices=0, epsilon=epsilon)
    text = text_of(render_report(*fabricated_run(case)))
    assert "How much privacy the training loses at least" in text
    assert said in text
    assert ("Accountant: at most" in text) == (epsilon is not None and epsilon[1] is not None)


@pytest.fixture(scope="module")
def pages():
    return {name: render_report(*fabricated_run(case)) for name, case in CASES.items()}


@pytest.mark.parametrize("case", CASES)
def test_the_page_leads_with_the_verdict_and_says_it_is_no_legal_finding(pages, case):
    results, _ = fabricated_run(CASES[case])
    text = text_of(pages[case])
    assert results.verdict.sentence in text
    assert (
        text.index(results.verdict.sentence)
        < text.index("Not a legal finding.")
        < text.index("How to read this")
    )


@pytest.mark.parametrize("case", CASES)
def test_every_attack_and_control_of_every_target_is_on_the_page(pages, case):
    results, _ = fabricated_run(CASES[case])
    text = text_of(pages[case])
    for target in results.targets:
        assert target.name in text
        for attack in (*target.attacks, *target.controls):
            assert attack.title in text
            assert all(note in text for note in attack.notes)


@pytest.mark.parametrize("case", CASES)
def test_no_placeholder_reaches_the_reader(pages, case):
    text = text_of(pages[case])
    for word in ("TODO", "ADD", "None", "nan", "inf", "undefined", "Markup"):
        assert not re.search(rf"\b{word}\b", text), word
    for piece in ("{{", "{%", "}}", "NamedTuple", "#0000"):
        assert piece not in pages[case], piece


@pytest.mark.parametrize("case", CASES)
def test_the_page_asks_nothing_of_the_network(pages, case):
    page = pages[case]
    assert not re.search(
        r"""(src|href|srcset|action|poster)\s*=\s*["']?\s*(https?:|//)""", page, re.IGNORECASE
    )
    assert not re.search(r"url\(\s*['\"]?(https?:|//)|@import|<script|<link|<iframe", page, re.IGNORECASE)
    assert not re.search(r"""src="(?!data:image/png)""", page)


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_well_formed_and_can_be_heard(pages, case):
    outline = outline_of(pages[case])
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.unlabelled == 0
    assert outline.captions == outline.tables
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    steps = zip(outline.headings, outline.headings[1:], strict=False)
    assert all(later <= earlier + 1 for earlier, later in steps)
    assert '<html lang="en">' in pages[case]


@pytest.mark.parametrize("case", CASES)
def test_every_drawing_is_sound_and_refers_to_its_own_parts(pages, case):
    drawings = re.findall(r"<svg.*?</svg>", pages[case], flags=re.DOTALL)
    assert bool(drawings)
    for drawing in drawings:
        ET.fromstring(drawing)  # noqa: S314 - our own text
        ids = set(re.findall(r'\bid="([^"]*)"', drawing))
        used = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', drawing))
        assert {one or other for one, other in used} <= ids


def test_the_same_inputs_give_the_same_bytes():
    first = render_report(*fabricated_run(SMALL))
    assert first == render_report(*fabricated_run(SMALL))


def test_the_archive_on_disk_gives_the_same_page_as_the_one_in_memory(tmp_path):
    results, archive = fabricated_run(SMALL)
    archive.save(tmp_path / "scores.npz")
    again = type(results).model_validate_json(results.model_dump_json())
    assert render_report(again, Archive.load(tmp_path / "scores.npz")) == render_report(results, archive)


def test_a_hostile_setting_and_name_are_shown_as_text():
    results, archive = fabricated_run(SMALL)
    hostile = "</td><script>alert('x')</script>$x_{$"
    attack = results.targets[0].attacks[0].model_copy(update={"title": hostile})
    target = results.targets[0].model_copy(update={"attacks": [attack, *results.targets[0].attacks[1:]]})
    update = {"config": {hostile: {"deep": hostile}}, "title": hostile, "targets": [target]}
    page = render_report(results.model_copy(update=update), archive)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert outline_of(page).open == []


def test_a_page_of_eight_full_targets_stays_small():
    page = render_report(*fabricated_run(Fabrication(targets=4, models=("cnn3d", "slice-mean"), slices=6)))
    assert len(page.encode()) < 1_500_000


def test_only_the_first_target_is_open(pages):
    page = pages["eight targets"]
    details = [part.split("</summary>")[0] for part in page.split("<details")[1:]]
    assert "<details open" not in page
    assert not any("cnn3d-half-0" in part for part in details)
    assert sum("-half-" in part for part in details) == 7


def test_the_mean_over_targets_comes_before_any_single_target(pages):
    text = text_of(pages["eight targets"])
    assert text.index("All targets together") < text.index("Target by target")
    assert "cnn3d: mean of 4 targets" in text
    assert "slice-mean: mean of 4 targets" in text
    assert "All targets together" not in text_of(pages["two attacks"])


def test_the_paper_stands_beside_the_attacks_only_where_it_has_a_value(pages):
    assert "Paper’s accuracy" in pages["null metrics"] or "Paper’s accuracy" in pages["eight targets"]
    assert "76.45 %" in text_of(pages["eight targets"])
    assert "82.89 %" in text_of(pages["eight targets"])
    assert "Paper’s accuracy" not in pages["no paper values"]


def test_a_rate_the_design_cannot_support_is_a_dash_with_its_reason(pages):
    text = text_of(pages["two attacks"])
    assert "needs at least 300 non-members" in text
    assert re.search(r'<span class="value">–</span><sup>a</sup>', pages["two attacks"])


def test_the_primary_attack_is_marked_and_the_best_row_is_called_selected(pages):
    rows = re.findall(r'<tr role="row" class="primary">.*?</tr>', pages["two attacks"], flags=re.DOTALL)
    assert len(rows) == 1
    assert ATTACKS[0].title in rows[0]
    assert "best of 2 rows is a selected maximum" in text_of(pages["two attacks"])


def test_charts_without_their_signal_are_left_out(pages):
    assert "Gradient norm<" in pages["two attacks"]
    assert "Gradient norm<" not in pages["no gradient norms"]
    assert "<img" in pages["two attacks"]
    assert "<img" not in pages["no slices"]


def test_an_archive_without_the_target_still_gives_tables():
    results, _ = fabricated_run(SMALL)
    page = render_report(results, Archive({}))
    assert ATTACKS[0].title in page
    assert "Training curve" in page
    assert "ROC, both axes" not in page


def test_real_participants_are_drawn_in_whole_years_and_the_reader_is_warned(pages):
    assert "rounded to whole years" in text_of(pages["real people"])
    assert "participant-level information" in text_of(pages["real people"])
    assert "rounded to whole years" not in text_of(pages["two attacks"])


def test_a_refused_audit_shows_its_reasons_and_no_numbers(pages):
    text = text_of(pages["refused"])
    results, _ = fabricated_run(CASES["refused"])
    assert results.verdict.reasons[0] in text
    assert "AUC of the primary attack – " in text
    assert "say nothing about privacy" in text
    assert "say nothing about privacy" not in text_of(pages["two attacks"])


def test_a_reason_that_the_sentence_gives_is_not_repeated():
    results, archive = fabricated_run(SMALL)
    reasons = [results.verdict.sentence[5:40], "quite another reason"]
    verdict = results.verdict.model_copy(update={"reasons": reasons})
    text = text_of(render_report(results.model_copy(update={"verdict": verdict}), archive))
    assert text.count(reasons[0]) == 1
    assert text.count(reasons[1]) == 1


def test_a_simulated_cohort_is_called_simulated_once():
    results, _ = fabricated_run(SMALL)
    names = [results.cohort.model_copy(update={"name": name}) for name in ("Simulated brains", "Brains")]
    assert [cohort_title(cohort) for cohort in names] == ["Simulated brains", "Brains (simulated)"]
    assert cohort_title(names[1].model_copy(update={"is_simulated": False})) == "Brains"


def test_writing_leaves_one_whole_file_and_nothing_beside_it(tmp_path):
    results, archive = fabricated_run(SMALL)
    write_report(results, archive, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_report(results, archive)


def test_each_control_has_its_own_meaning():
    meanings = [control_meaning(control.name) for control in CONTROLS]
    assert len(set(meanings)) == 3
    assert "split in two" in meanings[0]
    assert "never saw" in meanings[1]
    assert "age, sex and site" in meanings[2]
    assert control_meaning("covariates_best").startswith("The most that age, sex and site could tell")
    assert control_meaning("something else").startswith("A check")


def test_a_meaning_is_said_once_for_controls_of_one_kind():
    names = ["null_target:a", "null_target:b", "covariates_only"]
    assert [bool(meaning) for meaning in control_meanings(names)] == [True, False, True]


def test_the_model_that_never_saw_the_members_stands_in_the_table_of_errors(pages):
    assert "Model that never saw the members 3.2 3.2 – 6.2 0.0 –" in text_of(pages["two attacks"])


def test_a_design_is_said_in_words_and_only_once():
    design = {"number": 2, "repeats": 5, "leaked_per_class": 100, "participants": {"members": 4, "others": 3}}
    assert design_facts(design) == [
        ("design number", "2"),
        ("leaked per class", "100"),
        ("left to other uses", "3"),
    ]


def test_a_wider_interval_of_the_verdict_is_said():
    results, archive = fabricated_run(SMALL)
    auc = results.verdict.auc.model_copy(update={"level": 0.975})
    wider = results.model_copy(update={"verdict": results.verdict.model_copy(update={"auc": auc})})
    assert "that of the AUC a 97.5 % one" in text_of(render_report(wider, archive))
    assert "that of the AUC a" not in text_of(render_report(results, archive))


def test_every_setting_is_one_readable_line():
    settings = {"a": {"b": [1, 2.5], "c": None, "d": {}}, "e": True, "f": 1e-4, "g": ""}
    expected = {"a.b": "1, 2.5", "a.c": "not set", "a.d": "{}", "e": "true", "f": "0.0001", "g": "(empty)"}
    assert dict(flat(settings)) == expected


def test_the_rate_is_said_in_counts_of_people():
    results, _ = fabricated_run(Fabrication(attacks=ATTACKS[:1], per_class=100, repeats=1))
    rate = results.targets[0].attacks[0].metrics["tpr_at_fpr_0.05"]
    assert f"about {round(100 * rate.value)} are named" in sentence_of_rates(rate)
    assert sentence_of_rates(None) == "Not measured."


def test_the_full_configuration_and_all_versions_are_printed(pages):
    results, _ = fabricated_run(SMALL)
    text = text_of(pages["two attacks"])
    assert "training.learning_rate 0.0001" in text
    assert all(f"{name} {version}" in text for name, version in results.versions.items())
    assert f"Seed {results.seed};" in text
    assert json.dumps(results.seed) in text


def test_who_is_exposed_is_shown_in_groups_with_the_most_exposed_first(pages):
    results, _ = fabricated_run(CASES["people"])
    text = text_of(pages["people"])
    shown = text[text.index("Who is most exposed") :]
    names = [group_name(line) for line in sorted(results.risk[0].groups, key=lambda one: -one.probability)]
    assert [shown.index(name) for name in names] == sorted(shown.index(name) for name in names)
    assert "Can the adversary’s probabilities be believed?" in text
    assert "for the owner of the cohort alone" in text
    assert "it would single out a group of fewer than 5 people" in text
    assert "the larger, the more exposed" in text
    assert "no clear relation" in text
    assert "Who is exposed" not in text_of(pages["two attacks"])


def test_a_risk_that_cannot_be_stated_says_why():
    results, archive = fabricated_run(CASES["people"])
    none = results.risk[0].model_copy(
        update={
            "reason": "too few people",
            "mean_members": None,
            "reliability": [],
            "groups": [],
            "drivers": [],
        }
    )
    text = text_of(render_report(results.model_copy(update={"risk": [none]}), archive))
    assert "No probability is given: too few people." in text
    assert "Who is most exposed" not in text


def test_the_best_attack_is_named_only_with_its_corrected_interval(pages):
    results, _ = fabricated_run(CASES["people"])
    text = text_of(pages["people"])
    assert f"{results.best[0].title} is the best of 3 attacks: AUC 0.84 (0.79–0.88)" in text
    assert "p = 0.001" in text
    assert "best of 3 rows is a selected maximum and overstates. TPR" not in text
    eight = text_of(pages["people of eight targets"])
    assert "over 4 targets: AUC 0.84" in eight


def test_precision_is_said_in_people_for_the_primary_attack(pages):
    text = text_of(pages["people"])
    assert "How often an accusation is right" in text
    assert "1 of 100 people" in text
    assert re.search(r"of 100 people named, about \d+ would be members", text)
    assert "precision" not in text_of(pages["two attacks"]).lower()


def test_other_scans_stand_in_a_section_of_their_own(pages):
    text = text_of(pages["people"])
    assert "If the adversary holds another scan" in text
    assert "34 % (21 to 46)" in text
    assert "Membership shows in a scan that the model never saw." in text
    assert "If the adversary holds another scan" not in text_of(pages["two attacks"])


def test_other_scans_of_people_who_differ_are_no_evidence_of_a_leak():
    results, archive = fabricated_run(replace(SMALL, sessions=True))
    target, older = results.targets[0], Metric(value=0.7, low=0.6, high=0.8)
    rows = [one.model_copy(update={"covariates": older}) for one in target.other_scans]
    told = target.model_copy(update={"other_scans": rows})
    text = text_of(render_report(results.model_copy(update={"targets": [told]}), archive))
    assert "Age, sex and site alone reach 70 % on these people" in text
    assert "Membership shows in a scan" not in text


def test_other_scans_that_could_not_be_attacked_are_told_with_the_reason():
    results, archive = fabricated_run(replace(SMALL, sessions=True))
    target, nothing = results.targets[0], Metric(value=None, reason="too few were leaked")
    missed = [
        one.model_copy(update={"trained_on": nothing, "other_scan": nothing, "share": nothing})
        for one in target.other_scans
    ]
    first, rest = missed[0], target.other_scans[1:]
    for rows in ([first, *rest], missed):
        told = target.model_copy(update={"other_scans": rows})
        text = text_of(render_report(results.model_copy(update={"targets": [told]}), archive))
        assert "could not be measured: too few were leaked." in text
        assert "Not shown: too few were leaked." in text
        assert ("The same attack with another scan of the person" in text) == (rows is not missed)


def test_the_rarest_rate_has_a_column_only_where_somebody_has_it():
    results, archive = fabricated_run(SMALL)
    attack = results.targets[0].attacks[0]
    rate = attack.metrics["tpr_at_fpr_0.1"].model_copy(update={"value": 0.0123, "low": 0.01, "high": 0.02})
    attack = attack.model_copy(update={"metrics": {**attack.metrics, "tpr_at_fpr_0.001": rate}})
    target = results.targets[0].model_copy(update={"attacks": [attack, *results.targets[0].attacks[1:]]})
    page = render_report(results.model_copy(update={"targets": [target]}), archive)
    assert "TPR at 0.1 % FPR" in page
    assert "1.2 %" in text_of(page)
    assert "TPR at 0.1 % FPR" not in render_report(results, archive)


def test_attacks_are_compared_with_the_error_once_a_model(pages):
    for case, tables in (("two attacks", 1), ("eight targets", 2)):
        text = text_of(pages[case])
        assert text.count("against the |error| threshold, on the same people") == tables
        assert text.count("+0.021 (+0.004 to +0.038) better") == tables
    assert "not worse by more than 0.01" in text_of(pages["two attacks"])


def test_the_spread_over_targets_is_told_by_source_where_there_are_several(pages):
    text = text_of(pages["eight targets"])
    assert text.count("How far the AUC differs between the targets of") == 2
    assert "0.031 40 % – 60 %" in text
    assert "How far the AUC differs" not in text_of(pages["two attacks"])


def test_prediction_errors_have_their_intervals(pages):
    results, _ = fabricated_run(SMALL)
    target = results.targets[0]
    for name in ("members", "non_members", "gap"):
        metric = target.errors[name]
        assert f"{metric.value:.1f} ({metric.low:.1f} to {metric.high:.1f})" in text_of(pages["two attacks"])


def test_the_page_says_for_whom_it_is_and_what_may_be_published(pages):
    for page in pages.values():
        assert "not for publication" in text_of(page)
        assert "privacy_card.json" in text_of(page)
