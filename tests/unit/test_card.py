import json
import re

from privoxel.recipes.risk import assess_risk
from privoxel.report.card import (
    CARD_VERSION,
    PrivacyCard,
    card_markdown,
    privacy_card,
    privacy_card_schema,
    shipped_card_schema,
)
from tests.fabricated import Fabrication, fabricated_run
from tests.unit.test_participants_risk import CONFIG, cohort, several

SPENT = {
    "privacy_epsilon": "7.98765",
    "privacy_delta": "1e-06",
    "privacy_accountant": "prv",
    "privacy_unit": "participant",
    "privacy_guarantee": "ε = 7.99 at δ = 1e-06 (prv accountant)",
    "privacy_randomness": "secret",
    "privacy_noise": "Noise comes from the system.",
}


def card_of(*defences):
    """Return the card of an audit whose targets were trained with these facts about defences."""
    results = fabricated_run(Fabrication(targets=len(defences)))[0]
    targets = [
        target.model_copy(update={"design": target.design | ({} if facts is None else {"defence": facts})})
        for target, facts in zip(results.targets, defences, strict=True)
    ]
    return privacy_card(results.model_copy(update={"targets": targets}))


def test_the_shipped_schema_is_that_of_the_card():
    assert shipped_card_schema() == privacy_card_schema()


def test_the_schema_says_its_dialect_and_what_it_is():
    shipped = shipped_card_schema()
    assert shipped["$schema"].endswith("/draft/2020-12/schema")
    assert shipped["$id"] == f"urn:privoxel:privacy-card:{CARD_VERSION.partition('.')[0]}"


def test_a_card_holds_the_verdict_and_its_numbers():
    results = fabricated_run()[0]
    card = privacy_card(results)
    assert card.statement == results.verdict.sentence
    assert card.auc.value == results.verdict.auc.value
    assert [subject.members for subject in card.subjects] == [target.n_members for target in results.targets]
    assert PrivacyCard.model_validate_json(card.model_dump_json()) == card


def test_the_markdown_is_one_table_with_a_row_a_number():
    text = card_markdown(privacy_card(fabricated_run()[0]))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "Not a legal finding." in text
    assert "| AUC |" in text


def test_a_card_says_what_each_model_guarantees_and_null_where_nothing():
    card = card_of({"label_noise": "1.0", **SPENT}, {"label_noise": "1.0"}, None)
    private, defended, plain = (subject.privacy for subject in card.subjects)
    assert (private.epsilon, private.delta, private.accountant) == (7.98765, 1e-6, "prv")
    assert (private.unit, private.guarantee) == ("participant", SPENT["privacy_guarantee"])
    assert (private.randomness, private.secure_noise) == ("secret", False)
    assert defended is None
    assert plain is None
    assert json.loads(card.model_dump_json())["subjects"][2]["privacy"] is None
    assert PrivacyCard.model_validate_json(card.model_dump_json()) == card
    (line,) = [line for line in card_markdown(card).splitlines() if "ε" in line]
    assert line == (
        f"- Differentially private training of {card.subjects[0].name}, for each participant: "
        "ε = 7.99 at δ = 1e-06 (prv accountant). Noise comes from the system."
    )


def test_models_with_one_guarantee_share_a_line_and_an_infinite_epsilon_is_null():
    secure = SPENT | {"privacy_randomness": "secure"}
    none = SPENT | {"privacy_epsilon": "inf", "privacy_guarantee": "no meaningful guarantee"}
    card = card_of(secure, secure, none)
    assert [subject.privacy.epsilon for subject in card.subjects] == [7.98765, 7.98765, None]
    assert [subject.privacy.secure_noise for subject in card.subjects] == [True, True, False]
    first, second, third = (subject.name for subject in card.subjects)
    lines = [line for line in card_markdown(card).splitlines() if "private training" in line]
    assert f"of {first}, {second}, for" in lines[0]
    assert f"of {third}, for each participant: no meaningful guarantee." in lines[1]
    assert len(lines) == 2


def test_a_card_says_what_the_attack_shows_of_epsilon_and_is_silent_where_it_shows_nothing():
    card = privacy_card(fabricated_run(Fabrication(epsilon=(0.42, None)))[0])
    (shown,) = card.subjects[0].epsilon_shown
    assert (shown.on, shown.epsilon) == ("participants", 0.42)
    (line,) = [line for line in card_markdown(card).splitlines() if "more privacy than" in line]
    assert line.startswith(f"- The training of {card.subjects[0].name} loses more privacy than ε = 0.42 at δ")
    nothing = privacy_card(fabricated_run(Fabrication())[0])
    assert nothing.subjects[0].epsilon_shown[0].epsilon == 0.0
    assert "more privacy than" not in card_markdown(nothing)


def test_what_a_card_says_of_people_is_said_of_groups_that_hide_them():
    """No count below the smallest group, no age but that of a band, nobody's name, not even a rare site's."""
    results = fabricated_run(Fabrication())[0]
    risk = list(assess_risk(several(4), cohort(), CONFIG).summaries)
    youngest, oldest = results.cohort.age_min, results.cohort.age_max
    card = privacy_card(results.model_copy(update={"risk": risk}))
    (exposure,) = card.exposure
    assert exposure.smallest_group == CONFIG.report.smallest_group
    assert min(group.participants for group in exposure.groups) >= exposure.smallest_group
    assert sum(group.participants for group in exposure.groups) == risk[0].n_members
    stated = [group.probability.value for group in exposure.groups]
    assert stated == sorted(stated, reverse=True)
    for text in (card.model_dump_json(), card_markdown(card)):
        assert "sub-" not in text
        assert f"{youngest}" not in text
        assert f"{oldest}" not in text
    bands = [group.people.split(",")[0] for group in exposure.groups if group.people != "everyone else"]
    assert all(re.fullmatch(r"\d0–\d9", band) for band in bands)
    assert f"{exposure.groups[0].people}: " in card_markdown(card)


def test_a_card_without_probabilities_says_nothing_of_people():
    risk = [line.model_copy(update={"mean_members": None}) for line in fabricated_people().risk]
    assert risk
    assert privacy_card(fabricated_people().model_copy(update={"risk": risk})).exposure == []
    assert len(privacy_card(fabricated_people()).exposure) == len(risk)


def fabricated_people():
    return fabricated_run(Fabrication(people=True))[0]
