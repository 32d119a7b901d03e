"""A worker's part in confidential jobs: what it opens, where that lies meanwhile, what it seals."""
