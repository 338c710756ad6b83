"""research/letters.py: drawing and splits, with the font that Pillow carries; nothing is trained."""

import importlib
import string
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

RESEARCH = Path(__file__).resolve().parents[2] / "research"


@pytest.fixture(scope="module")
def letters():
    sys.path.insert(0, str(RESEARCH))
    try:
        yield importlib.import_module("letters")
    finally:
        sys.path.remove(str(RESEARCH))


@pytest.fixture(scope="module")
def font(letters):
    return ImageFont.load_default(letters.FIELD_SIZE)


@pytest.fixture
def carried_font(letters, font, monkeypatch):
    """Makes every path open the font that Pillow carries."""
    monkeypatch.setattr(letters.ImageFont, "truetype", lambda path, size: font)


class ChosenKind:
    """A random generator whose first number is given: it decides how `finish` lowers resolution."""

    def __init__(self, kind, seed=0):
        self.kind, self.rng = kind, np.random.default_rng(seed)

    def random(self):
        kind, self.kind = self.kind, 0.99
        return kind

    def __getattr__(self, name):
        return getattr(self.rng, name)


def test_no_digit_is_among_the_classes(letters):
    assert not set(letters.CLASSES) & set(string.digits)
    assert set(letters.CLASSES) < set(string.ascii_letters)
    assert len(letters.CLASSES) == 45  # 52 less c o s v w x z, drawn like their upper case


def test_every_package_has_a_licence_and_is_named_once(letters):
    assert len(letters.FONT_PACKAGES) == len(set(letters.FONT_PACKAGES)) > 50
    assert set(letters.FONT_PACKAGES) >= letters.HANDWRITING_PACKAGES
    assert all(name.startswith("fonts-") for name in letters.FONT_PACKAGES)


def test_glyph_fills_the_field_and_is_negative_inside(letters, font):
    glyph = letters.draw_glyph(font, "I")
    assert glyph.field.shape == (64, 64)
    assert glyph.half_height == 24  # 48 pixels: the longer side of every glyph
    assert 1 < glyph.half_width < 12
    assert glyph.field[32, 32] < 0 < glyph.field[0, 0]
    assert glyph.half_stroke == pytest.approx(glyph.half_width, abs=1.5)


def test_blank_character_gives_no_glyph(letters, font):
    assert letters.draw_glyph(font, " ") is None


def test_augment_depends_on_the_seed_alone(letters, font):
    glyph = letters.draw_glyph(font, "R")
    first, again, other = (
        letters.augment(glyph, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_augmented_letters_are_white_on_black(letters, font):
    glyph = letters.draw_glyph(font, "A")
    images = np.stack([letters.augment(glyph, np.random.default_rng(seed)) for seed in range(40)])
    assert images.shape == (40, 32, 32)
    assert images.dtype == np.uint8
    assert images.max(axis=(1, 2)).min() > 100
    assert images[:, 0, 0].mean() < 20  # corners are background
    assert 0.1 < np.mean(images > 127) < 0.6


def test_most_common_view_is_an_8_by_8_scan_with_17_grey_levels(letters):
    image = np.zeros((32, 32))
    image[:, :6] = 1.0  # a bar that covers coarse column 0 and half of column 1
    view = letters.finish(image, ChosenKind(0.0))
    scan = np.zeros((8, 8))
    scan[:, 0], scan[:, 1] = 1.0, 0.5
    expected = letters.upsampling(8) @ scan @ letters.upsampling(8).T
    assert np.array_equal(view, np.round(expected * 255))


def test_a_few_views_keep_full_resolution(letters):
    image = np.eye(32)
    assert np.array_equal(letters.finish(image, ChosenKind(0.97)), np.uint8(image * 255))


def test_upsampling_is_bilinear_with_half_pixel_centres(letters):
    matrix = letters.upsampling(16)
    assert matrix.shape == (32, 16)
    assert np.allclose(matrix[0, :2], [1.0, 0.0])  # clamped at the border
    assert np.allclose(matrix[1, :2], [0.75, 0.25])  # pixel 1.5 / 2 lies 0.25 past centre 0.5
    assert np.allclose(matrix[2, :2], [0.25, 0.75])
    assert np.allclose(matrix.sum(axis=1), 1)


def test_averaging_weights_pixels_by_overlap(letters):
    assert np.allclose(letters.averaging(8)[0], [0.25] * 4 + [0] * 28)
    third = letters.averaging(12)[0]  # 32 / 12 = 2 2/3 pixels
    assert np.allclose(third[:4], [0.375, 0.375, 0.25, 0])
    assert np.allclose(letters.averaging(12).sum(axis=1), 1)


def test_draw_font_draws_all_letters_and_repeats_itself(letters, carried_font):
    images, labels = letters.draw_font("any", copies=2, seed=(0, 1))
    again, _ = letters.draw_font("any", copies=2, seed=(0, 1))
    other, _ = letters.draw_font("any", copies=2, seed=(0, 2))
    assert images.shape == (104, 32, 32)
    counts = np.bincount(labels, minlength=45)
    assert counts[letters.CLASSES.index("A")] == 2
    assert counts[letters.CLASSES.index("O")] == 4  # O and o
    assert sorted(set(counts.tolist())) == [2, 4]
    assert np.array_equal(images, again)
    assert not np.array_equal(images, other)


def test_fingerprint_names_a_design_and_refuses_what_is_no_latin_font(
    letters, carried_font, tmp_path, monkeypatch
):
    assert letters.fingerprint("any") == letters.fingerprint("other")
    monkeypatch.undo()
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"not a font")
    assert letters.fingerprint(str(broken)) is None


def test_held_out_families_share_no_style_with_training(letters):
    names = [f"Family{n}-{style}.ttf" for n in range(20) for style in ("Bold", "Light")]
    fonts = [letters.FontFile(name, "fonts-lato") for name in names]
    training, held_out = letters.split_fonts(fonts)
    assert len(held_out) == 4  # a tenth of 20 families, two styles each
    assert len(training) == 36
    assert not {f.family for f in training} & {f.family for f in held_out}
    assert letters.split_fonts(fonts) == (training, held_out)


def test_missing_packages_are_reported_with_the_command_that_installs_them(letters, monkeypatch):
    monkeypatch.setattr(letters, "_package_files", lambda name: [])
    with pytest.raises(SystemExit, match="--no-install-recommends fonts-a fonts-b$"):
        letters.find_fonts(["fonts-b", "fonts-a"])
