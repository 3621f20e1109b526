"""tasks/run/meaning.py: what is a change of a source file and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.run.meaning import meaning

SOURCE = """\
'''Module.'''

LIMIT = 3


class A:
    '''Class.'''

    def f(self) -> str:
        '''Method.'''
        return "x"
"""


def of(folder: Path, text: str, name: str = "a.py") -> bytes:
    file = folder / name
    file.write_text(text)
    return meaning(file)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("LIMIT = 3", "LIMIT = 3  # why", True),
        ("'''Module.'''", "'''Another word.'''", True),
        ("    '''Class.'''\n", "    '''Other.'''\n", True),
        ("        '''Method.'''\n", "", True),
        ("LIMIT = 3", "LIMIT    =   3", True),
        ("LIMIT = 3", "LIMIT = 4", False),
        ('return "x"', 'return "y"', False),
        ("class A:", "class B:", False),
    ],
)
def test_only_what_runs_is_a_change(tmp_path: Path, old: str, new: str, same: bool) -> None:
    assert old in SOURCE
    assert (of(tmp_path, SOURCE) == of(tmp_path, SOURCE.replace(old, new))) is same


def test_a_string_that_is_no_docstring_counts(tmp_path: Path) -> None:
    assert of(tmp_path, 'x = 1\n"""said"""\n') != of(tmp_path, 'x = 1\n"""other"""\n')


def test_other_files_and_broken_python_count_by_their_bytes(tmp_path: Path) -> None:
    assert of(tmp_path, "a: 1  # x\n", "a.yaml") == b"a: 1  # x\n"
    assert of(tmp_path, "def (:\n") == b"def (:\n"
