"""Doctor: one module per subject that can be wrong, and the command that asks them all."""
