"""Other people's formats: one module each, found by its ``FORMAT``. Nothing else names them."""
