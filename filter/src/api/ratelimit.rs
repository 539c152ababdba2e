//! `ratelimit::`: how often something may happen in a time. The limiter counts for all filters together, and outlives them.
//! One that is away limits nothing.

use std::sync::Arc;

use rhai::{Dynamic, ImmutableString};
use vsmtp_ipc::edge::filter_limits::{MAX_KEY, MAX_LIMIT, MAX_NAME, MAX_PERIOD_S, Taken, Taking};
use vsmtp_mail::{EnhancedCode, Reply};

use super::general::Surroundings;
use super::registry::{Name, Outcome, Registry, name};
use crate::limiter::Limiter;
use crate::object::{Fault, Object};
use crate::stage::Stage;
use crate::status::Status;

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let limiter = &surroundings.limiter;
    let errors = "if the name is empty, longer than 64 octets or has a NUL, the key is longer than 512 octets or neither text, object nor whole number, or a number is out of its range";
    let take = name("ratelimit", "take", &[])
        .doc("(name: string, key: any, limit: int, seconds: int) -> bool", "Counts one for this key of the rate of that name, if not more than `limit` are counted in any span of so many seconds; false, and nothing is counted, if they would be. Each number of seconds has a count of its own, so that one name and key may be limited by several. All filters count together, and a reload or the death of one forgets nothing; a restart of the service does. If the limiter does not answer within a second, nothing is limited: true. Waits for it.")
        .errors(errors)
        .example("if !ratelimit::take(\"mail\", ctx::client_ip(), 60, 3600) { state::reject(\"450 4.7.1 not so much\") }");
    let counts = |limiter: &Arc<dyn Limiter>, count: i64| {
        let limiter = Arc::clone(limiter);
        move |name: &str, key: &Dynamic, limit: i64, seconds: i64| {
            Ok(ask(&*limiter, name, key, (limit, seconds, count))?.is_none_or(|taken| taken.granted))
        }
    };
    one(registry, take, counts(limiter, 1));
    let take_several = take.doc(
        "(name: string, key: any, limit: int, seconds: int, count: int) -> bool",
        "The same for several at once: all of them or none.",
    );
    let shared = Arc::clone(limiter);
    registry.waits5(
        take_several.example("ratelimit::take(\"rcpt\", \"jane\", 100, 60, 5)"),
        Stage::Connect,
        {
            move |_, name: ImmutableString, key: Dynamic, limit: i64, seconds: i64, count: i64| {
                Ok(ask(&*shared, &name, &key, (limit, seconds, count))?.is_none_or(|taken| taken.granted))
            }
        },
    );
    let left = name("ratelimit", "left", &[])
        .doc("(name: string, key: any, limit: int, seconds: int) -> int", "How many are left for this key; nothing is counted. All of them if the limiter does not answer. Waits for it.")
        .errors(errors)
        .example("ratelimit::take(\"mail\", \"jane\", 60, 3600); ratelimit::left(\"mail\", \"jane\", 60, 3600) == 59");
    let shared = Arc::clone(limiter);
    one(registry, left, move |name, key, limit, seconds| {
        Ok(ask(&*shared, name, key, (limit, seconds, 0))?.map_or(limit, |taken| i64::from(taken.left)))
    });
    let check = name("ratelimit", "check", &[])
        .doc("(name: string, key: any, limit: int, seconds: int) -> status", "`ratelimit::take` as a status: goes on, or refuses with `450 4.7.1 Too many of these, try again later`.")
        .errors(errors)
        .example("rule \"not so fast\" || ratelimit::check(\"mail\", ctx::client_ip(), 60, 3600)");
    let take = counts(limiter, 1);
    one(registry, check, move |name, key, limit, seconds| {
        Ok(if take(name, key, limit, seconds)? { Status::Next } else { Status::Reject(too_many()) })
    });
}

/// A function of a name, a key, a limit and a period.
fn one<R: rhai::Variant + Clone>(
    registry: &mut Registry,
    name: Name,
    body: impl Fn(&str, &Dynamic, i64, i64) -> Outcome<R> + Clone + Send + Sync + 'static,
) {
    registry.waits4(
        name,
        Stage::Connect,
        move |_, name: ImmutableString, key: Dynamic, limit: i64, seconds: i64| {
            body(&name, &key, limit, seconds)
        },
    );
}

/// Asks the limiter; the numbers are the limit, the period and how many are wanted. `None` if it does not answer.
fn ask(
    limiter: &dyn Limiter,
    name: &str,
    key: &Dynamic,
    (limit, seconds, count): (i64, i64, i64),
) -> Outcome<Option<Taken>> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
        return Err(Fault(format!("the name of a rate has 1 to {MAX_NAME} octets, and no NUL")));
    }
    let key = text(key)?;
    if key.len() > MAX_KEY {
        return Err(Fault(format!("the key of a rate has at most {MAX_KEY} octets")));
    }
    Ok(limiter.take(Taking {
        name: name.to_owned(),
        key: key.to_string(),
        limit: within("the limit", limit, 1, MAX_LIMIT)?,
        period_s: within("the period", seconds, 1, MAX_PERIOD_S)?,
        count: within("the count", count, 0, MAX_LIMIT)?,
    }))
}

/// Addresses, names and numbers as one text, whatever a script has.
fn text(key: &Dynamic) -> Outcome<ImmutableString> {
    if let Some(object) = key.read_lock::<Object>() {
        return Ok(object.text());
    }
    if let Some(text) = key.read_lock::<ImmutableString>() {
        return Ok(text.clone());
    }
    let number = key.as_int().map_err(|kind| Fault(format!("a {kind} cannot be the key of a rate")))?;
    Ok(number.to_string().into())
}

fn within(what: &str, number: i64, least: u32, most: u32) -> Outcome<u32> {
    let fits = u32::try_from(number).ok().filter(|number| (least..=most).contains(number));
    fits.ok_or_else(|| Fault(format!("{what} must be from {least} to {most}, not {number}")))
}

fn too_many() -> Reply {
    Reply::fixed(450, EnhancedCode(4, 7, 1), "Too many of these, try again later")
}
