//! What clients may use up, and tests before the greeting, with the whole MTA. All clients of these tests are 127.0.0.1, so
//! nobody is exempt here.

mod counts;
mod rules;
mod screening;

use vsmtp_tests::{Mta, Settings};

/// An MTA with two receivers for which nobody is exempt.
fn start(config: &str) -> Mta {
    Mta::start(&settings(config))
}

fn settings(config: &str) -> Settings {
    let config = format!("config.server.receivers = 2; config.server.limits.exempt = []; {config}");
    Settings { config, ..Settings::default() }
}
