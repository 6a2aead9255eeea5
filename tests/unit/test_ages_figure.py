import re
import xml.etree.ElementTree as ET

import numpy as np

from privoxel.report.ages import ages_by_learner_chart
from privoxel.report.svg import standalone


def eight_learners(rng):
    return {f"L{k}": rng.normal(50 + 3 * k, 5, 40 * k) for k in range(1, 9)}


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_participants_mean_and_sd_of_every_learner_are_printed(rng):
    ages, unseen = eight_learners(rng), rng.normal(62, 7, 1234)
    picture = ages_by_learner_chart(ages, unseen, key="a")
    printed = texts(picture.svg)
    for name, values in {**ages, "unseen": unseen}.items():
        assert name in printed
        assert f"n = {len(values):,}" in printed
        assert f"{np.mean(values):.1f} ({np.std(values):.1f})" in printed
    assert "L3: 120 participants of mean age" in picture.svg
    assert {key.mark for key in picture.legend} == {"member", "other"}


def test_a_federation_without_unseen_participants_is_drawn_without_them(rng):
    picture = ages_by_learner_chart(eight_learners(rng), np.zeros(0), key="a")
    assert "unseen" not in texts(picture.svg)
    assert "var(--other)" not in picture.svg
    assert [key.mark for key in picture.legend] == ["member"]


def test_a_learner_of_one_age_and_a_long_name_are_drawn():
    ages = {"The General Hospital of Somewhere": np.array([60.0, 60.0]), "L2": np.array([61.0])}
    picture = ages_by_learner_chart(ages, np.array([60.5]), key="a")
    assert "The General H…" in texts(picture.svg)
    assert "60.0 (0.0)" in texts(picture.svg)


def test_ridges_are_as_high_as_the_shares_of_the_groups():
    ages = {"L1": np.array([50.0, 50.0, 50.0, 52.5]), "L2": np.array([52.0, 53.0])}
    path = re.findall(r'<path d="([^"]*)"', ages_by_learner_chart(ages, np.zeros(0), key="a").svg)
    boxes = [[float(v) for v in re.findall(r"[\d.]+", p)[1::2]] for p in path]
    heights = sorted({round(max(b) - min(b), 1) for b in boxes if len(b) > 4 and max(b) - min(b) < 60})
    ratio = heights[-2] / heights[-1] if len(heights) > 1 else 0
    assert abs(ratio - 0.75) < 0.02  # 3 of 4 against 2 of 2 in one bin


def test_a_figure_of_its_own_is_well_formed_and_has_the_pages_colours(rng):
    document = standalone(ages_by_learner_chart(eight_learners(rng), np.zeros(0), key="a").svg)
    root = ET.fromstring(document)  # noqa: S314 - our own figure
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for variable in set(re.findall(r"var\((--[a-z]+)\)", document)):
        assert f"{variable}: #" in document


def test_the_same_ages_give_the_same_bytes(rng):
    ages = eight_learners(rng)
    first, second = (ages_by_learner_chart(ages, ages["L8"], key="a").svg for _ in range(2))
    assert first == second
