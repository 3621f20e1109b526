"""Check an artifact by its embeddings of the probe."""

from tasks.kinds.arrays.checking import check as check
