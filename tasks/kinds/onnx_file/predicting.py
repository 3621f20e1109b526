"""Open a package: named arrays in, named arrays out."""

from tasks.kinds.arrays.predicting import SERVES as SERVES
from tasks.kinds.arrays.predicting import open_package as open_package
from tasks.kinds.arrays.predicting import signature as signature
