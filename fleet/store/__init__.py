"""Stores: one port, several adapters, one contract."""
