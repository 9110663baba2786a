"""Modules and model surgery that recipes put together."""
