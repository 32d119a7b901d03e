"""The thermostat's laws, one a file, without I/O or a clock of their own: the caller brings time and readings."""
