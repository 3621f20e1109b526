"""A checkout without git, as a ZIP gives: DVC is told so in its settings of this checkout, once."""

from __future__ import annotations

from pathlib import Path

from configobj import ConfigObj

SETTINGS = Path(".dvc") / "config.local"  # DVC's own, which git ignores


def settle(root: Path) -> bool:
    """Tell DVC that `root` has no git, where that is so and it was not told; returns whether it was told now."""
    if any((folder / ".git").exists() for folder in (root, *root.resolve().parents)) or not (root / ".dvc").is_dir():
        return False
    settings = ConfigObj(str(root / SETTINGS), encoding="utf-8")  # in the form that DVC keeps it
    core = settings.setdefault("core", {})
    if "no_scm" in core:
        return False
    core["no_scm"] = "true"
    settings.write()
    return True


if __name__ == "__main__":
    settle(Path.cwd())
