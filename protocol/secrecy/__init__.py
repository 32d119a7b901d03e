"""Confidential jobs: the key and its shares, who may be given it, what is sealed under it. All of it pure."""
