"""perfect."""
