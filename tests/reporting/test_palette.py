"""Text is readable on what it is written on, and each role is one colour."""

import pytest

from finetune.record import STATES
from finetune.reporting.palette import ROLES, as_variables, css, light


def luminance(colour):
    """Relative luminance of sRGB, as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lower, higher = sorted((luminance(one), luminance(other)))
    return (higher + 0.05) / (lower + 0.05)


def test_contrast_is_that_of_the_definition():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


@pytest.mark.parametrize("side", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(side):
    colour = {role: getattr(each, side) for role, each in ROLES.items()}
    for text in ("ink", "muted"):
        for below in ("page", "surface", "band"):
            assert contrast(colour[text], colour[below]) >= 4.5, (text, below)
    for below in ("page", "surface"):
        assert contrast(colour["accent"], colour[below]) >= 4.5
    for state in STATES:
        assert contrast(colour["on-colour"], colour[state]) >= 4.5, state
    for line in ("accent", "second"):
        assert contrast(colour[line], colour["surface"]) >= 3


def test_light_colours_differ_so_that_each_names_its_role():
    lights = [each.light for each in ROLES.values()]
    assert len(set(lights)) == len(lights)
    drawn = f"fill: {light('frozen')}; stroke: {light('ink')}"
    assert as_variables(drawn) == "fill: var(--frozen); stroke: var(--ink)"


def test_css_is_dark_where_the_reader_prefers_it_and_light_on_paper():
    day, _, night = css().partition("@media screen and (prefers-color-scheme:dark)")
    assert f"--page:{ROLES['page'].light};" in day
    assert f"--page:{ROLES['page'].dark};" in night
