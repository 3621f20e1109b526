"""Describe a classifier's graph."""

from tasks.kinds.arrays.describing import describe as describe
