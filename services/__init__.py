"""The five desks: each package is a process of its own, and none imports another."""
