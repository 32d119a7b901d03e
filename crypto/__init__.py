"""Keys, signatures with a context, Merkle batches, sealing, membership certificates.

Knows nothing of the mesh: bytes in, bytes out. Ed25519 comes from libsodium through PyNaCl (about half the
cost of OpenSSL through `cryptography`, and it refuses small-order keys and malleable signatures);
ChaCha20-Poly1305, HKDF and scrypt come from `cryptography`.
"""
