"""Text is readable on what it is written on, and each role is one colour."""

import itertools

import numpy as np
import pytest

from finetune.record.schema import STATES
from finetune.reporting.palette import ROLES, STRONGEST, as_variables, css, light


def luminance(colour):
    """Relative luminance of sRGB, as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lower, higher = sorted((luminance(one), luminance(other)))
    return (higher + 0.05) / (lower + 0.05)


# Simulation of dichromats in linear sRGB: Machado, Oliveira and Fernandes, "A physiologically-based
# model for simulation of color vision deficiency" (2009), severity 1.
SIGHTS = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
# Oklab (Ottosson 2020): from linear sRGB to cones, and from their cube roots to lightness and hue.
CONES = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
OKLAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip
LEAST_APART = 0.12  # in Oklab; about six differences that can just be seen
LINES = ("accent", "second", "good", "mark")  # of one picture


def linear(colour):
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def distance(one, other, sight):
    """How far two colours are apart for eyes of a kind, in Oklab."""
    seen = [np.clip(SIGHTS[sight] @ linear(color), 0, 1) for color in (one, other)]
    first, second = (OKLAB @ np.cbrt(CONES @ light) for light in seen)
    return float(np.linalg.norm(first - second))


def mixed(colour, below, opacity):
    parts = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (colour, below)]
    return "#" + "".join(
        f"{round(opacity * a + (1 - opacity) * b):02x}" for a, b in zip(*parts, strict=True)
    )


def test_contrast_is_that_of_the_definition():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


@pytest.mark.parametrize("side", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(side):
    colour = {role: getattr(color, side) for role, color in ROLES.items()}
    for text in ("ink", "muted"):
        for below in ("page", "surface", "band"):
            assert contrast(colour[text], colour[below]) >= 4.5, (text, below)
    for below in ("page", "surface"):
        assert contrast(colour["accent"], colour[below]) >= 4.5
    for state in STATES:
        assert contrast(colour["on-colour"], colour[state]) >= 4.5, state
    for line in LINES:
        assert contrast(colour[line], colour["surface"]) >= 3


@pytest.mark.parametrize("side", ["light", "dark"])
@pytest.mark.parametrize("role", ["accent", "second", "trainable"])
def test_text_on_translucent_cells_can_be_read(side, role):
    colour = {name: getattr(color, side) for name, color in ROLES.items()}
    for opacity in np.linspace(0, STRONGEST, 11):
        below = mixed(colour[role], colour["surface"], opacity)
        assert contrast(colour["ink"], below) >= 4.5


@pytest.mark.parametrize("side", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize(
    "together", [LINES, ("accent", "second", "mark", "ink"), ("trainable", "frozen", "untrainable")]
)
def test_colours_of_one_picture_stay_apart_for_all_eyes(side, sight, together):
    for one, other in itertools.combinations(together, 2):
        apart = distance(getattr(ROLES[one], side), getattr(ROLES[other], side), sight)
        assert apart >= LEAST_APART, (one, other)


def test_a_difference_that_some_eyes_do_not_see_is_found():
    green, purple = "#009e73", "#cc79a7"  # of Okabe and Ito: lines that were alike for some
    assert distance(green, purple, "deutan") < LEAST_APART < distance(green, purple, "none")


def test_light_colours_differ_so_that_each_names_its_role():
    lights = [color.light for color in ROLES.values()]
    assert len(set(lights)) == len(lights)
    drawn = f"fill: {light('frozen')}; stroke: {light('ink')}"
    assert as_variables(drawn) == "fill: var(--frozen); stroke: var(--ink)"


def test_css_is_dark_where_the_reader_prefers_it_and_light_on_paper():
    day, _, night = css().partition("@media screen and (prefers-color-scheme:dark)")
    assert f"--page:{ROLES['page'].light};" in day
    assert f"--page:{ROLES['page'].dark};" in night
