"""What of a source file has a meaning to whoever runs it, so that a changed comment or docstring redoes nothing."""

from __future__ import annotations

import ast
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def meaning(file: Path) -> bytes:
    """Read what counts of a file: Python's syntax tree without docstrings; all of others and of broken Python.

    The tree's form may change with Python's minor version; then everything counts as changed, which is safe.
    """
    content = file.read_bytes()
    if file.suffix != ".py":
        return content
    try:
        tree = ast.parse(content)
    except SyntaxError:
        return content
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree).encode()
