//! The `vsmtp` binary.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    vsmtp_master::main()
}
