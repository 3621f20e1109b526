"""Check an artifact by its classes of the probe."""

from tasks.kinds.arrays.checking import check as check
