"""Losses over all pairs within a batch, or between its rows and references: labels `[B]`, embeddings `[B, D]`."""
