"""X-ray and optical cutouts, from files and services."""
