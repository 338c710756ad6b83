"""Draws letters from open fonts: the training data of `pretrain_letters.py`.

Every glyph becomes a signed distance field. One random warp of that field gives rotation, shear,
scale, shift and elastic distortion at once, and the threshold on it sets the width of the stroke,
so that light and bold fonts end up with the same range of widths. Most glyphs are then averaged
down to a coarse grid and interpolated back to 32 x 32, which is what an 8 x 8 scan of a handwritten
character looks like after resizing.
"""

from __future__ import annotations

import string
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont
from scipy import ndimage

LETTERS = string.ascii_uppercase + string.ascii_lowercase
# Every glyph is drawn to fill the image, so these lower-case letters look like their upper case.
SAME_AS_UPPER = "cosvwxz"
CLASSES = "".join(letter for letter in LETTERS if letter not in SAME_AS_UPPER)
IMAGE_SIZE = 32
FIELD_SIZE = 64  # side of the distance field, in pixels
GLYPH_SIZE = 48  # longer side of the glyph inside the field, in pixels

# Debian font packages by the licence of their fonts (from the copyright file of each package).
FONT_LICENCES: dict[str, str] = {
    "SIL OFL 1.1": (
        "fonts-anonymous-pro fonts-averia-gwf fonts-averia-sans-gwf fonts-averia-serif-gwf "
        "fonts-cabin fonts-cantarell fonts-comfortaa fonts-comic-neue fonts-crosextra-carlito "
        "fonts-dancingscript fonts-dkg-handwriting fonts-dosis fonts-ebgaramond "
        "fonts-ecolier-court fonts-firacode fonts-humor-sans fonts-inter fonts-junicode "
        "fonts-jura fonts-klaudia-berenika fonts-kristi fonts-lato fonts-league-spartan "
        "fonts-liberation2 fonts-linuxlibertine fonts-lobster fonts-lobstertwo fonts-nanum "
        "fonts-noto-core fonts-noto-mono fonts-okolaks fonts-play fonts-quicksand "
        "fonts-radisnoir fonts-sil-andika fonts-sil-gentium fonts-sora fonts-tomsontalks "
        "fonts-vollkorn fonts-yanone-kaffeesatz"
    ),
    "SIL OFL 1.0": "fonts-breip fonts-inconsolata fonts-levien-typoscript fonts-oldstandard",
    "Apache-2.0": ("fonts-jetbrains-mono fonts-open-sans fonts-roboto-slab fonts-roboto-unhinted"),
    "GPL-2+ with font exception": "fonts-adf-accanthis fonts-adf-universalis fonts-sjfonts",
    "public domain": "fonts-goudybookletter fonts-ocr-b fonts-tuffy",
    "Bitstream Vera": "fonts-dejavu-core fonts-dejavu-extra",
    "GPL-3+ with font exception": "fonts-freefont-ttf fonts-rufscript",
    "LGPL-2+": "fonts-isabella",
    "BSD-3-Clause or SIL OFL 1.1": "fonts-3270",
    "Apache-2.0 or SIL OFL 1.1": "fonts-crosextra-caladea",
    "BSD-3-Clause": "fonts-go",
    "MIT and Bitstream Vera": "fonts-hack",
    "ParaType Free Font Licence": "fonts-paratype",
    "GUST Font Licence": "fonts-texgyre",
}
FONT_PACKAGES = tuple(name for names in FONT_LICENCES.values() for name in names.split())
# Drawn by hand or with a pen-like stroke: closest to handwriting, so they count several times.
HANDWRITING_PACKAGES = frozenset(
    (
        "fonts-breip fonts-comic-neue fonts-dancingscript fonts-dkg-handwriting "
        "fonts-ecolier-court fonts-humor-sans fonts-isabella fonts-kristi "
        "fonts-levien-typoscript fonts-nanum fonts-radisnoir fonts-rufscript fonts-sil-andika "
        "fonts-sjfonts fonts-tomsontalks"
    ).split()
)
HANDWRITING_WEIGHT = 3


@dataclass(frozen=True)
class FontFile:
    """One usable font file, with the family that decides its split."""

    path: str
    package: str

    @property
    def family(self) -> str:
        """File name up to the style: `Lato-Bold.ttf` and `Lato-Light.ttf` are one family."""
        return Path(self.path).stem.split("-")[0].lower()

    @property
    def weight(self) -> int:
        """How many times a glyph of this font is drawn, relative to a printed font."""
        return HANDWRITING_WEIGHT if self.package in HANDWRITING_PACKAGES else 1


@dataclass(frozen=True)
class Glyph:
    """A letter as a signed distance field, negative inside, and half its extents in pixels."""

    field: np.ndarray
    half_height: float
    half_width: float
    half_stroke: float


def draw_glyph(font: ImageFont.FreeTypeFont, letter: str) -> Glyph | None:
    """Draws a letter as large as the field allows.

    Args:
        font: A Pillow font; its size sets the precision, and 64 is enough.
        letter: One character.

    Returns:
        The glyph, or None where the font draws nothing.
    """
    mask = font.getmask(letter, mode="L")
    if 0 in mask.size:
        return None
    ink = np.asarray(mask, dtype=np.uint8).reshape(mask.size[1], mask.size[0])
    rows, columns = np.flatnonzero(ink.max(axis=1) > 127), np.flatnonzero(ink.max(axis=0) > 127)
    if not rows.size:
        return None
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = GLYPH_SIZE / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    resized = Image.fromarray(ink).resize((width, height), Image.Resampling.BILINEAR)
    canvas = np.zeros((FIELD_SIZE, FIELD_SIZE), bool)
    top, left = (FIELD_SIZE - height) // 2, (FIELD_SIZE - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(resized) > 127
    if not canvas.any():
        return None
    inside = ndimage.distance_transform_edt(canvas)
    field = (ndimage.distance_transform_edt(~canvas) - inside).astype(np.float32)
    ridge = inside[canvas & (inside == ndimage.maximum_filter(inside, 3))]
    return Glyph(field, height / 2, width / 2, float(np.median(ridge)))


@cache
def upsampling(source: int) -> np.ndarray:
    """Returns the matrix (32, source) of bilinear interpolation, as in `keras.layers.Resizing`."""
    at = (np.arange(IMAGE_SIZE) + 0.5) * source / IMAGE_SIZE - 0.5
    distance = np.abs(np.clip(at, 0, source - 1)[:, None] - np.arange(source)[None])
    return np.clip(1 - distance, 0, 1)


@cache
def averaging(target: int) -> np.ndarray:
    """Returns the matrix (target, 32) of area averages over `target` equal intervals."""
    edges = np.arange(target + 1) * IMAGE_SIZE / target
    pixels = np.arange(IMAGE_SIZE)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * target / IMAGE_SIZE


@cache
def smooth_basis(knots: int) -> np.ndarray:
    """Returns the matrix (32, knots) of cubic interpolation: `basis @ values @ basis.T` is a smooth field."""
    return ndimage.zoom(np.eye(knots), (IMAGE_SIZE / knots, 1), order=3, mode="nearest")


def augment(glyph: Glyph, rng: np.random.Generator) -> np.ndarray:
    """Draws one random view of a glyph: white on black, mostly at low resolution.

    Args:
        glyph: The distance field to warp.
        rng: Source of all randomness; the same state gives the same image.

    Returns:
        Image: (32, 32) uint8.
    """
    grid = np.arange(IMAGE_SIZE) - (IMAGE_SIZE - 1) / 2
    y, x = np.meshgrid(grid - rng.normal(0, 0.8), grid - rng.normal(0, 0.8), indexing="ij")
    basis = smooth_basis(5)
    strength = rng.uniform(0.2, 2.2)
    y = y + basis @ rng.normal(0, strength, (5, 5)) @ basis.T
    x = x + basis @ rng.normal(0, strength, (5, 5)) @ basis.T
    angle, shear = np.deg2rad(rng.normal(0, 9)), rng.normal(0.05, 0.22)
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    x = x + shear * y

    half_height = rng.uniform(12.0, 16.2)
    half_width = half_height * glyph.half_width / glyph.half_height * np.exp(rng.normal(0, 0.18))
    if half_width > 12.0:  # handwriting in a square box is narrower than print
        half_width = rng.uniform(9.0, 13.5)
    scale_y, scale_x = glyph.half_height / half_height, glyph.half_width / half_width
    centre = (FIELD_SIZE - 1) / 2
    at = np.stack([y * scale_y + centre, x * scale_x + centre])
    scale = float(np.sqrt(scale_y * scale_x))
    distance = ndimage.map_coordinates(glyph.field, at, order=1, mode="nearest") / scale

    stroke = glyph.half_stroke / scale
    grow = max(rng.uniform(1.5, 3.7) - stroke, -0.45 * stroke)  # more erosion would cut hairlines
    basis = smooth_basis(4)
    grow = grow + basis @ rng.normal(0, 0.25, (4, 4)) @ basis.T
    return finish(np.clip(0.5 + grow - distance, 0, 1), rng)


def finish(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lowers resolution and contrast of a drawn letter.

    Args:
        image: (32, 32) floats in [0, 1].
        rng: Source of all randomness.

    Returns:
        Image: (32, 32) uint8.
    """
    kind = rng.random()
    if kind < 0.65:  # the grid and the 17 grey levels of an 8 x 8 scan
        coarse = np.round(averaging(8) @ (image > 0.5) @ averaging(8).T * 16) / 16
        image = upsampling(8) @ coarse @ upsampling(8).T
    elif kind < 0.88:
        size = int(rng.integers(7, 21))
        image = (
            upsampling(size) @ (averaging(size) @ image @ averaging(size).T) @ upsampling(size).T
        )
    elif kind < 0.96:
        image = ndimage.gaussian_filter(image, rng.uniform(0.4, 1.6))
    if rng.random() < 0.25:
        image = image * rng.uniform(0.65, 1.0)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def draw_font(path: str, copies: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Draws every letter of one font `copies` times.

    Args:
        path: Font file.
        copies: Number of views of each letter.
        seed: The only seed of all randomness.

    Returns:
        Images (n, 32, 32) uint8 and labels (n,) uint8, the positions in `CLASSES`.
    """
    rng = np.random.default_rng(seed)
    font = ImageFont.truetype(path, FIELD_SIZE)
    images, labels = [], []
    for letter in LETTERS:
        label = CLASSES.index(letter.upper() if letter in SAME_AS_UPPER else letter)
        glyph = draw_glyph(font, letter)
        if glyph is not None:
            images += [augment(glyph, rng) for _ in range(copies)]
            labels += [label] * copies
    return np.stack(images), np.array(labels, np.uint8)


def fingerprint(path: str) -> bytes | None:
    """Identifies the letters of a font; None if it does not draw all of them distinctly."""
    try:
        font = ImageFont.truetype(path, FIELD_SIZE)
        missing = bytes(font.getmask("\uffff"))
        masks = [bytes(font.getmask(letter)) for letter in LETTERS]
    except OSError:
        return None
    if any(not any(mask) or mask == missing for mask in masks) or len(set(masks[:26])) < 26:
        return None
    glyphs = [draw_glyph(font, letter) for letter in "AGRQagek"]
    return b"".join((glyph.field < 0)[::2, ::2].tobytes() for glyph in glyphs if glyph is not None)


def find_fonts(packages: Iterable[str] = FONT_PACKAGES) -> list[FontFile]:
    """Lists the usable font files of installed Debian packages, each design once.

    Args:
        packages: Names of Debian font packages.

    Returns:
        Fonts in a fixed order.

    Raises:
        SystemExit: packages are missing; the message holds the command that installs them.
    """
    packages = sorted(packages)
    listed = {name: _package_files(name) for name in packages}
    absent = [name for name, files in listed.items() if not files]
    if absent:
        command = "apt-get update && apt-get install -y --no-install-recommends"
        raise SystemExit(
            f"The Debian font packages must be installed. Missing: {len(absent)} of "
            f"{len(packages)}. Run:\n  {command} {' '.join(absent)}"
        )
    fonts = [FontFile(path, name) for name in packages for path in sorted(listed[name])]
    with get_context("spawn").Pool(2) as pool:
        prints = pool.map(fingerprint, [font.path for font in fonts], chunksize=16)
    unique: dict[bytes, FontFile] = {}
    for font, mark in zip(fonts, prints, strict=True):
        if mark is not None:
            unique.setdefault(mark, font)
    return list(unique.values())


def split_fonts(
    fonts: list[FontFile], held_out: float = 0.1, seed: int = 0
) -> tuple[list[FontFile], list[FontFile]]:
    """Splits fonts by family, so that no held-out letter has a sibling style in training.

    Args:
        fonts: All usable fonts.
        held_out: Share of families to hold out.
        seed: Seed that selects them.

    Returns:
        Training fonts and held-out fonts.
    """
    families = sorted({font.family for font in fonts})
    order = np.random.default_rng(seed).permutation(len(families))
    out = {families[index] for index in order[: max(1, round(held_out * len(families)))]}
    return [f for f in fonts if f.family not in out], [f for f in fonts if f.family in out]


def draw_letters(
    fonts: list[FontFile], copies: int, stream: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws all fonts with two processes; the result does not depend on how many there are.

    Args:
        fonts: Fonts to draw.
        copies: Number of views of each letter of a printed font.
        stream: Number that separates the randomness of training and held-out letters.
        seed: Seed of all randomness.

    Returns:
        Images (n, 32, 32) uint8 and labels (n,) uint8.
    """
    jobs = [(f.path, copies * f.weight, (seed, stream, i)) for i, f in enumerate(fonts)]
    with get_context("spawn").Pool(2) as pool:
        parts = pool.starmap(draw_font, jobs, chunksize=8)
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _package_files(name: str) -> list[str]:
    try:
        run = subprocess.run(["dpkg", "-L", name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit(
            "The fonts come from Debian packages, and `dpkg` must exist. Run this on Debian."
        ) from None
    return [line for line in run.stdout.splitlines() if line.lower().endswith((".ttf", ".otf"))]
