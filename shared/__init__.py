"""What every service of LAPOR! Pontianak stands on; it knows no service."""
