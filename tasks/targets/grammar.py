"""The syntax of Swift and Kotlin files by tree-sitter's grammars: no compiler, so that types are not checked."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tasks.records.bundles import Check


def syntax(language: Literal["Swift", "Kotlin"], files: Sequence[Path]) -> Check:
    """Whether each file is of the language by its grammar."""
    name, module = f"{language} syntax (tree-sitter)", f"tree_sitter_{language.lower()}"
    if any(importlib.util.find_spec(one) is None for one in ("tree_sitter", module)):
        package = module.replace("_", "-")
        return Check(name=name, state="not-measured", reason=f"{package} is not installed; `make env` does")
    tree_sitter, grammar = (importlib.import_module(one) for one in ("tree_sitter", module))
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    for file in files:
        wrong = _error(parser.parse(file.read_bytes()).root_node)
        if wrong is not None:
            line, column = wrong.start_point
            return Check(name=name, state="failed", reason=f"{file.name}, line {line + 1}, column {column + 1}")
    return Check(name=name, state="ok", reason=f"{len(files)} files")


def _error(node: Any) -> Any:
    if node.is_error or node.is_missing:
        return node
    return next((found for one in node.children if one.has_error and (found := _error(one)) is not None), None)
