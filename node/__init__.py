"""The world around the protocol: transport, storage, execution, heat, client, command line."""
