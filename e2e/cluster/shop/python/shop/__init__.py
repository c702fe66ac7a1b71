"""The Python part of the demo shop."""
