//! One property per message type of every edge: whatever bytes come, decoding ends with a message or an error; what
//! decodes encodes to the same bytes again, so that there is one way to say each thing; and every flipped, cut or
//! lengthened valid message is a message or an error too.

mod control;
mod mail;
mod property;
mod samples;
mod services;
mod tools;

/// A new edge comes with its samples above and its types in the fuzz target.
#[test]
fn no_edge_is_left_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/edge");
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/fuzz_targets/ipc_message.rs");
    let samples = [
        include_str!("control.rs"),
        include_str!("mail.rs"),
        include_str!("services.rs"),
        include_str!("tools.rs"),
    ]
    .concat();
    let target = std::fs::read_to_string(target).unwrap();
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().and_then(std::ffi::OsStr::to_str).unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for message in text.lines().filter_map(|line| line.strip_prefix("impl Message for ")) {
            let kind = message.split([' ', '{']).next().unwrap();
            let sample = if name == "master_child" { kind.to_owned() } else { format!("{name}::{kind}") };
            assert!(samples.contains(&format!("\n    {sample}")), "{name}::{kind} has no sample");
            assert!(target.contains(&format!("<{name}::{kind}>")), "{name}::{kind} is not fuzzed");
            count += 1;
        }
    }
    assert!(count >= 40, "all edges are looked at: {count}");
}
