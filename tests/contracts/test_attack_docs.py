"""Every attack has its section in docs/attacks.md, with when it fails, and is measured or said not to be."""

import re
from pathlib import Path

import pytest

from privoxel.attacks import ATTACKS, CONTROLS, WHEN_NAMED, WITH_STATED_SD

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "attacks.md"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
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


def measured() -> set[str]:
    """Return the first cells of all tables of results but those of null calibration."""
    parts = re.split(r"^## ", RESULTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    power = "".join(part for part in parts if not part.startswith("Null calibration"))
    return {cell.strip("`") for cell in re.findall(r"^\| (\S+) \|", power, flags=re.MULTILINE)}


@pytest.mark.parametrize("name", {**ATTACKS, **WHEN_NAMED, **WITH_STATED_SD})
def test_an_attack_is_measured_on_targets_that_leak_or_the_page_says_that_it_is_not(name):
    told = re.findall(r"`([^`]+)`", sections()["Not measured"])
    forms = tuple(one for one in told if one.endswith("centred-"))
    is_form = name.startswith(forms) and name != "centred-error"
    assert name in measured() or name in told or is_form, f"measure {name}, or add it to Not measured"
