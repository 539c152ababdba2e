//! queue-manager
fn main() {}
