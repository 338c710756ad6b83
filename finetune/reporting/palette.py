"""Colours of every picture and page: safe for colour-blind eyes, light and dark.

The hues are those of Okabe and Ito, "Color Universal Design" (2008,
https://jfly.uni-koeln.de/color/), as given by Wong, "Points of view: Color blindness", Nature
Methods 8, 441 (2011). Light blue is what is frozen, orange what trains; nothing is told by colour
alone. Where the background is dark, lines take the lighter of two related hues. The third and the
fourth line (good, mark) are not of that palette: they are chosen so that all four stay apart in
both themes for protan, deutan and tritan eyes, which `tests/reporting/test_palette.py` measures.
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
    """One role, as it is on a light and on a dark page; ``#rrggbb``."""

    light: str
    dark: str


# Text in the colour `ink` can be read on a role that is as opaque as this, in both themes.
STRONGEST = 0.5
# The light colours differ from each other: pictures are drawn in them, and on a page each becomes
# the variable of its role.
ROLES = {
    "page": Colour("#f6f7f8", "#111418"),
    "surface": Colour("#ffffff", "#1a1f25"),
    "ink": Colour("#1c2127", "#e8eaed"),
    "muted": Colour("#58616c", "#a6aeb8"),
    "line": Colour("#d5dae0", "#3a414b"),
    "band": Colour("#eef0f3", "#232931"),
    "accent": Colour(OKABE_ITO["blue"], OKABE_ITO["sky blue"]),  # training; links
    "second": Colour(OKABE_ITO["vermillion"], OKABE_ITO["orange"]),  # validation; what went wrong
    "mark": Colour("#580c72", "#9a68b0"),  # the best epoch
    "good": Colour("#0a553d", "#b9eec2"),  # what the proof found still
    "trainable": Colour(OKABE_ITO["orange"], OKABE_ITO["orange"]),
    "frozen": Colour(OKABE_ITO["sky blue"], OKABE_ITO["sky blue"]),
    "untrainable": Colour("#dbe1e7", "#7a828c"),
    "on-colour": Colour("#101418", "#101418"),  # text on trainable, frozen, untrainable
}


def light(role: str) -> str:
    """Returns the colour of a role on a light page."""
    return ROLES[role].light


def css() -> str:
    """Returns the roles as CSS variables, ``--role``, dark where the reader prefers it."""
    day = "".join(f"--{role}:{each.light};" for role, each in ROLES.items())
    night = "".join(f"--{role}:{each.dark};" for role, each in ROLES.items())
    return f":root{{{day}}}@media screen and (prefers-color-scheme:dark){{:root{{{night}}}}}"


def as_variables(svg: str) -> str:
    """Returns SVG drawn in light colours with the variable of its role for each."""
    for role, each in ROLES.items():
        svg = svg.replace(each.light, f"var(--{role})")
    return svg
