"""The syntax of Swift files by tree-sitter's grammar, where it is installed: no compiler, so types are not checked."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.records.bundles import Check

NAME = "Swift syntax (tree-sitter)"


def syntax(files: Sequence[Path]) -> Check:
    """Whether each file is Swift by its grammar."""
    if importlib.util.find_spec("tree_sitter_swift") is None:
        return Check(name=NAME, state="not-measured", reason="tree-sitter-swift is not installed; `make env` does")
    import tree_sitter
    import tree_sitter_swift

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    for file in files:
        wrong = _error(parser.parse(file.read_bytes()).root_node)
        if wrong is not None:
            line, column = wrong.start_point
            return Check(name=NAME, state="failed", reason=f"{file.name}, line {line + 1}, column {column + 1}")
    return Check(name=NAME, state="ok", reason=f"{len(files)} files")


def _error(node: Any) -> Any:
    if node.is_error or node.is_missing:
        return node
    return next((found for one in node.children if one.has_error and (found := _error(one)) is not None), None)
