"""Where a server listens, as a file."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.serve.address import Address
from tasks.serve.options import ServerOptions


def test_an_address_that_was_written_with_older_names_is_read(tmp_path: Path) -> None:
    new = Address(
        pid=1, created=0.0, host="h", port=2, name="m", version="3", manifest_sha256="", options=ServerOptions(slots=4)
    )
    older = new.model_dump(mode="json")
    older["running"] = older.pop("options")
    (tmp_path / "address.json").write_text(json.dumps(older))
    assert Address.read(tmp_path / "address.json") == new
