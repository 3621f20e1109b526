"""Check an artifact by its outputs on the probe."""

from tasks.kinds.arrays.checking import check as check
