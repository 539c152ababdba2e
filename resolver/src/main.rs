//! resolver
fn main() {}
