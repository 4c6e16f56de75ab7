"""Decoupled methods: recover, crops and relabel with a teacher."""
