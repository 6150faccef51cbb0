"""A cluster that follows a git repository: what is to be followed, how far it came, what drifted.

`values` and `wanted` are plain; `git` runs git; `book` keeps the values in the store; `follower` is
the part of fleetd that does it while its engine leads.
"""
