"""Running strangers' tasks: one interface, two runtimes (wasm and native), child processes only."""
