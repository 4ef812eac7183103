"""Whole models: the same model, weights and batches on every backend, and where the numbers part first."""
