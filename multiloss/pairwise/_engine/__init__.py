"""The engine of all pairwise losses: `loop.reduced`, or `direct.reduced` for few pairs, of a `formula.Formula`."""
