"""Start-up helpers give everything back."""

import importlib
import os
import subprocess
import sys

import pytest

from finetune.startup import left_out


def test_left_out_modules_come_back(tmp_path, monkeypatch):
    (tmp_path / "left_out_example.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with left_out("left_out_example", "os"):
        with pytest.raises(ImportError):
            importlib.import_module("left_out_example")
        assert sys.modules["os"] is os
    assert importlib.import_module("left_out_example").value == 1


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
