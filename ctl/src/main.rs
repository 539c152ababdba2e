//! The `vsmtpctl` binary.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    vsmtp_ctl::main()
}
