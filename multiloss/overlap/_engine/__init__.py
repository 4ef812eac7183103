"""What the overlap losses stand on: inputs in one form, sums over pixels, and ratios of them."""
