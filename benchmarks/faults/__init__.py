"""The fault benchmark: every fault that the checks promise to find, injected one at a time.

`python -m benchmarks.faults` injects each into a sound experiment, at several strengths, and counts
what is found; it runs the checks on sound controls too, and counts what is reported there. Faults
and strengths were written down before the checks were, from what happens to people, not from what
a check can see.
"""
