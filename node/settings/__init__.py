"""Reading of settings files: located TOML, typed keys with bounds, and the reference pages made of them."""
