"""What is built into the component; only values and modules are imported elsewhere."""
