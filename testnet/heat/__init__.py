"""The same rooms, weather and jobs under several policies: which keeps people warm, and what it costs."""
