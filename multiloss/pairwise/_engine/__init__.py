"""What all pairwise losses are made of: `loop.reduced`, or `direct.reduced` of few pairs, of a `formula.Formula`."""
