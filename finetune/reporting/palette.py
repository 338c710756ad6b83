"""Colours of all pictures and pages, for light and dark themes and for colour-blind readers.

The hues are those of Okabe and Ito, "Color Universal Design" (2008,
https://jfly.uni-koeln.de/color/), as given by Wong, "Points of view: Color blindness", Nature
Methods 8, 441 (2011). Light blue means frozen, orange means trainable, and no meaning depends on
colour alone. On a dark background, lines use the lighter of two related hues. The colours of the
third and fourth line (good, mark) are not from that palette: they are chosen so that readers with
protan, deutan and tritan vision can tell all four lines apart in both themes, which
`tests/reporting/test_palette.py` measures.
"""

from dataclasses import dataclass

OKABE_ITO = {
    "orange": "#e69f00",
    "sky blue": "#56b4e9",
    "bluish green": "#009e73",
    "yellow": "#f0e442",
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "reddish purple": "#cc79a7",
}


@dataclass(frozen=True)
class Colour:
    """The colour of one role on a light and on a dark page, as ``#rrggbb``."""

    light: str
    dark: str


# Text in the colour `ink` is readable on a role up to this opacity, in both themes.
STRONGEST = 0.5
# No two light colours are equal: pictures are drawn in light colours, and a page replaces each by
# the variable of its role.
ROLES = {
    "page": Colour("#f6f7f8", "#111418"),
    "surface": Colour("#ffffff", "#1a1f25"),
    "ink": Colour("#1c2127", "#e8eaed"),
    "muted": Colour("#58616c", "#a6aeb8"),
    "line": Colour("#d5dae0", "#3a414b"),
    "band": Colour("#eef0f3", "#232931"),
    "accent": Colour(OKABE_ITO["blue"], OKABE_ITO["sky blue"]),  # training; links
    "second": Colour(OKABE_ITO["vermillion"], OKABE_ITO["orange"]),  # validation; errors
    "mark": Colour("#580c72", "#9a68b0"),  # the best epoch
    "good": Colour("#0a553d", "#b9eec2"),  # a proof that holds
    "trainable": Colour(OKABE_ITO["orange"], OKABE_ITO["orange"]),
    "frozen": Colour(OKABE_ITO["sky blue"], OKABE_ITO["sky blue"]),
    "untrainable": Colour("#dbe1e7", "#7a828c"),
    "on-colour": Colour("#101418", "#101418"),  # text on trainable, frozen, untrainable
}


def light(role: str) -> str:
    """Returns the colour of a role on a light page."""
    return ROLES[role].light


def css() -> str:
    """Returns the roles as CSS variables, ``--role``, in the theme that the reader prefers."""
    day = "".join(f"--{role}:{colour.light};" for role, colour in ROLES.items())
    night = "".join(f"--{role}:{colour.dark};" for role, colour in ROLES.items())
    return f":root{{{day}}}@media screen and (prefers-color-scheme:dark){{:root{{{night}}}}}"


def as_variables(svg: str) -> str:
    """Returns an SVG with each light colour replaced by the variable of its role."""
    for role, colour in ROLES.items():
        svg = svg.replace(colour.light, f"var(--{role})")
    return svg
