"""Tiny generated copies of published datasets, in their exact layout on disk."""
