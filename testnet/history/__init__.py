"""The offline checker of histories: it reads what nodes and clients logged, and shares no code with what they run."""
