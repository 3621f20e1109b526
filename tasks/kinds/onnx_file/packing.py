"""Nothing belongs beside such a model."""

from tasks.kinds.arrays.packing import companions as companions
from tasks.kinds.arrays.packing import converses as converses
