"""A language model on its way in: judged, accounted for, and proven to be what its files say."""
