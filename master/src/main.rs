//! master
fn main() {}
