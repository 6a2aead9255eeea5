"""Every attack and control has its section in docs/attacks.md: idea, formula, needs, and when it fails."""

import re
from pathlib import Path

import pytest

from privoxel.attacks import ATTACKS, CONTROLS, WHEN_NAMED, WITH_STATED_SD

PAGE = Path(__file__).parents[2] / "docs" / "attacks.md"
PARTS = ("Idea", "Formula", "Needs", "Fails")
CENTRED = "centred-…"  # one section serves all centred forms


def sections() -> dict[str, str]:
    """Return the text of each section by every name in its heading."""
    parted = re.split(r"^#{2,3} (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        name: text
        for heading, text in zip(parted[::2], parted[1::2], strict=True)
        for name in heading.removesuffix(" (control)").split(", ")
    }


@pytest.mark.parametrize("name", {**ATTACKS, **WHEN_NAMED, **WITH_STATED_SD, **CONTROLS})
def test_an_attack_has_a_section_that_says_what_it_is_and_when_it_fails(name):
    known = sections()
    text = known.get(name) or (known[CENTRED] if "centred-" in name else "")
    assert text, f"docs/attacks.md has no heading with {name}"
    assert [part for part in PARTS if f"**{part}" not in text] == []
