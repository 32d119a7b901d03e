"""Python functions as jobs: their source and typed values, run by a CPython that is itself WebAssembly."""
