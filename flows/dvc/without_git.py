"""A checkout without git, as a ZIP gives: DVC is told so in its settings of this checkout, once."""

from __future__ import annotations

from pathlib import Path

SETTINGS = Path(".dvc") / "config.local"  # DVC's own, which git ignores
WORDS = "[core]\n    no_scm = true\n"


def settle(root: Path) -> bool:
    """Tell DVC that `root` has no git, where that is so and it was not told; returns whether it was told now."""
    if any((folder / ".git").exists() for folder in (root, *root.resolve().parents)) or not (root / ".dvc").is_dir():
        return False
    file = root / SETTINGS
    if file.is_file() and "no_scm" in file.read_text():
        return False
    with file.open("a", encoding="utf-8") as settings:
        settings.write(WORDS)
    return True


if __name__ == "__main__":
    settle(Path.cwd())
