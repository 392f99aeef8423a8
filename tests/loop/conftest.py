"""Fixtures of loop_fixtures, for every test here."""

from loop_fixtures import planned, profile, trained

__all__ = ["planned", "profile", "trained"]
