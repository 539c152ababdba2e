//! The kernel as this project uses it; the one crate with unsafe code.
