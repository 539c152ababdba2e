//! End to end, from outside, against the built binaries.
