"""Routing over HTTP: cases, and agencies."""
