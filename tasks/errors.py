"""The errors Edgewright raises on purpose. Each message says what happened and what to do."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAIL = 1
EXIT_BAD_INPUT = 2
EXIT_INCONCLUSIVE = 3


class EdgewrightError(Exception):
    """Base of every error a user can cause or mend; commands print it and exit with `exit_code`."""

    exit_code = EXIT_BAD_INPUT


class ConfigError(EdgewrightError):
    """A parameter is unknown, has the wrong type or is out of range."""


class ModelError(EdgewrightError):
    """The model is missing, truncated, unsafe or of a kind that cannot be read."""


class DataError(EdgewrightError):
    """Evaluation or calibration data is missing, empty, duplicated or overlapping."""


class UnsupportedError(EdgewrightError):
    """A framework cannot handle this model, variant or device; recorded, never fatal to the run."""


class ResourceError(EdgewrightError):
    """Disk, memory or a lock that the work needs is not available."""


class RegistryError(EdgewrightError):
    """The tracking server or registry refused, or a promotion lacks a passed verdict."""


class ChildError(EdgewrightError):
    """A child process failed; carries what is needed to record and repeat it."""

    exit_code = EXIT_FAIL

    def __init__(self, message: str, *, kind: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.log_tail = log_tail
