"""Packages with entry points, installed for one test."""

from finetune.config import entry_points, plugins


def installer(tmp_path, monkeypatch):
    """Returns a function that installs a distribution with entry points and, perhaps, a module.

    What a test registers in this process is forgotten after it.
    """
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_registered", {group: {} for group in plugins.GROUPS})

    def installed(package, version, points, module=None, code=""):
        info = tmp_path / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {package}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(points)
        if module is not None:
            (tmp_path / f"{module}.py").write_text(code)
        entry_points.read.cache_clear()
        return info

    entry_points.read.cache_clear()
    return installed
