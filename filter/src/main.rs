//! filter
fn main() {}
