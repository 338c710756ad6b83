"""Start-up helpers give everything back."""

import os
import subprocess
import sys

import pytest

from finetune.startup import left_out


def test_left_out_modules_come_back():
    assert "colorsys" not in sys.modules
    with left_out("colorsys", "os"):
        with pytest.raises(ImportError):
            import colorsys
        assert sys.modules["os"] is os
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("body", "shown"),
    [("pass", False), ("raise ValueError", True), ("raise ConfigError('x')", False)],
)
def test_native_lines_are_shown_only_with_an_unexpected_failure(body, shown):
    script = (
        "import os\nfrom finetune.startup import native_stderr_held\n"
        "from finetune.errors import ConfigError\n"
        "try:\n  with native_stderr_held():\n"
        f"    os.write(2, b'native line'); {body}\n"
        "except Exception: pass\nos.write(2, b'after')\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0
    assert ("native line" in result.stderr) == shown
    assert result.stderr.endswith("after")
