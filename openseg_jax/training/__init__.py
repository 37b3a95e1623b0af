"""Training: schedule, optimizer, step and loop."""
