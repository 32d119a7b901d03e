"""A heater as a device of Home Assistant, over MQTT. Needs the extra `hearthmesh[mqtt]`."""
