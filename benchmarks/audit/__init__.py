"""The audit against injected errors, and against cleanlab."""
