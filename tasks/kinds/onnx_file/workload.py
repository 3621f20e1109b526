"""Rows alone and together."""

from tasks.kinds.arrays.workload import workload as workload
