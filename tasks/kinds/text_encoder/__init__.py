"""Text encoders: a text in, one vector out; judged by what they find, as search and clustering use them."""

FAMILY = "arrays"
