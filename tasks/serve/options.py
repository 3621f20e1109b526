"""How a server is run, beside what params.yaml says: what a repair changes, and takes back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.records.base import Record

Some = Annotated[int, Field(ge=1)] | None


class ServerOptions(Record):
    """Options of a server that differ from the defaults; None, or empty, is the default."""

    cores: tuple[int, ...] = ()  # the processors it may use, by number
    threads: Some = None  # of the runtime; left out, one for each of its processors
    slots: Some = None  # requests at once
    context: Some = None  # tokens of prompt and answer together
    device: str | None = None  # auto: as the package says | cpu | as its runtime names it

    @property
    def words(self) -> list[str]:
        """The options as arguments of `python -m tasks.serve`.

        >>> ServerOptions(cores=(0, 2), slots=4).words, ServerOptions().words
        (['--cores', '0,2', '--slots', '4'], [])
        """
        named = {"cores": ",".join(map(str, self.cores)), "threads": self.threads, "slots": self.slots}
        given = {**named, "context": self.context, "device": self.device}
        return [word for name, value in given.items() if value for word in (f"--{name}", str(value))]

    @property
    def said(self) -> str:
        """The options in words.

        >>> ServerOptions(threads=1).said, ServerOptions().said
        ('threads 1', 'the defaults')
        """
        words = self.words
        return ", ".join(f"{a[2:]} {b}" for a, b in zip(words[::2], words[1::2], strict=True)) or "the defaults"
