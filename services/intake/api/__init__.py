"""Intake over HTTP: people (accounts), complaints, and what can be asked without signing in."""
