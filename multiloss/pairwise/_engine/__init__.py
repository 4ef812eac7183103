"""What all pairwise losses are made of: `loop.reduced`, of a `formula.Formula`."""
