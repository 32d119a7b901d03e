"""Real processes, hurt in every way that can be thought of while they work, and what their histories say afterwards."""
