"""A seeded simulator: any number of unmodified `Mesh` machines in virtual time, in a world that breaks."""
