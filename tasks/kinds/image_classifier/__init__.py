"""Image classifiers: a picture in, a number for each class out; how pictures are prepared is part of the package."""

FAMILY = "arrays"
