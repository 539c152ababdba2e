//! The limiter's slice of the configuration in the form in which it is used. Pure.

use std::time::Duration;

use vsmtp_config::LimitsSlice;
use vsmtp_ipc::edge::receiver_limits::{Kind, MAX_WAIT_MS, Wanted};

use crate::counters::Rules;
use crate::screen::Policy;

/// What clients may use up.
pub fn rules(slice: &LimitsSlice) -> Rules {
    let rates = Kind::ALL.map(|kind| match kind {
        Kind::Connections => slice.connection_rate,
        Kind::Messages => slice.message_rate,
        Kind::Recipients => slice.recipient_rate,
        Kind::Errors => slice.error_rate,
        Kind::Handshakes => slice.tls_rate,
        Kind::AuthFailures => slice.auth_failure_rate,
    });
    Rules {
        window_ms: milliseconds(slice.window),
        open: slice.connections,
        rates,
        soft_percent: slice.soft_percent,
        delay_ms: wait(slice.delay),
        prefix_v4: slice.prefix_v4,
        prefix_v6: slice.prefix_v6,
    }
}

/// What is tested before the greeting.
pub fn policy(slice: &LimitsSlice) -> Policy {
    let screen = &slice.screen;
    Policy {
        wait_ms: wait(screen.greet_wait),
        early: screen.greet_action,
        sites: screen.sites.iter().map(|site| (**site).clone()).collect(),
        threshold: i32::try_from(screen.threshold).unwrap_or(i32::MAX),
        listed: screen.dnsbl_action,
        deep: screen.deep,
        keep_ms: milliseconds(screen.cache),
        keep_tested_ms: milliseconds(screen.deep_cache),
    }
}

/// What receivers are to tell us. What nobody limits is not even asked for.
pub fn wanted(rules: &Rules, policy: &Policy) -> Wanted {
    let limits = |kind| rules.rate(kind).is_some();
    Wanted {
        connect: rules.open.is_some()
            || limits(Kind::Connections)
            || limits(Kind::Errors)
            || limits(Kind::AuthFailures)
            || policy.is_on(),
        // Errors are judged at MAIL too.
        messages: limits(Kind::Messages) || limits(Kind::Errors),
        recipients: limits(Kind::Recipients),
        errors: limits(Kind::Errors),
        handshakes: limits(Kind::Handshakes),
        auth_failures: limits(Kind::AuthFailures),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn wait(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).min(MAX_WAIT_MS)
}
