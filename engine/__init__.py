"""The engine: the elected leader that decides which machine runs which unit."""
