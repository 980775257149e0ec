"""Many trainings from one command: which, where they run, and what came out."""
