"""Running strangers' tasks: one interface, three runtimes (wasm, native, oci), child processes only."""
