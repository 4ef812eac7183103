"""Losses over all pairs of a batch, or of its rows and references: labels `[B]`, embeddings `[B, D]`."""
