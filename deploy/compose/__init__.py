"""What the containers' installation on one host needs besides its Compose file."""
