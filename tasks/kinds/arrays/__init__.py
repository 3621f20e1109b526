"""What kinds of the family arrays share: rows of inputs, outputs beside the reference's, requests that are timed."""
