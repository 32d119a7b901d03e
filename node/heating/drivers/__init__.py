"""The world's side of a heater: sensors, meters and actuators, each behind one interface."""
