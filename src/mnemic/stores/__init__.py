"""Rows: the one SQL store, written once on SQLAlchemy Core, and what differs per database."""
