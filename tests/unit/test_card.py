from privoxel.report.card import (
    CARD_VERSION,
    PrivacyCard,
    card_markdown,
    privacy_card,
    privacy_card_schema,
    shipped_card_schema,
)
from tests.fabricated import fabricated_run


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
