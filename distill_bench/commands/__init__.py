"""The subcommands. Each is thin: one public function, its options and what is printed."""
