"""Other people's file formats: one module a format, and what reading any of them takes."""
