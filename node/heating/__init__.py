"""Heat sinks: the simulated room, the control that turns cold into work, and the meters of a heater."""
