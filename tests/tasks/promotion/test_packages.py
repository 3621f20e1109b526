"""Package folders that may be served."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ModelError
from tasks.promotion.command import packaged
from tests.drill.rig import Rig


def test_what_may_not_be_served_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no package"):
        packaged(tmp_path)
    made = Rig(tmp_path / "rig")
    folder = Path(made.versions[0].package)
    (folder / "tokenizer/tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="was changed"):
        packaged(folder)
