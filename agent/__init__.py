"""The agent: makes one machine's systemd match what is scheduled on it, and reports back."""
