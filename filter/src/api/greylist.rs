//! `greylist::`: whoever writes for the first time is asked to come again. The limiter remembers who did, over restarts; one
//! that is away has nobody wait. What was waited for counts only when a message is accepted, so nothing that is refused
//! later leaves a trace.

use std::net::IpAddr;
use std::sync::Arc;

use rhai::{Dynamic, Map};
use vsmtp_config::Network;
use vsmtp_ipc::edge::filter_limits::{MAX_LIFETIME_S, Terms, Triple};
use vsmtp_mail::{Address, EnhancedCode, Reply, ReversePath};

use super::address::object;
use super::general::Surroundings;
use super::registry::{Outcome, Registry, name};
use crate::limiter::Limiter;
use crate::object::{Fault, Net, Object, contains};
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::{Shared, Transaction};

/// How it is done if a rule says nothing else.
const USUAL: Options = Options {
    terms: Terms { delay_s: 300, window_s: 2 * 86_400, lifetime_s: 36 * 86_400, known_after: 5 },
    prefix_v4: 24,
    prefix_v6: 64,
    except: None,
};
/// Most triples of a client after which it is known.
const MAX_KNOWN_AFTER: u32 = 1_000;

/// How a rule wants it.
#[derive(Clone)]
struct Options {
    terms: Terms,
    prefix_v4: u8,
    prefix_v6: u8,
    /// Clients that never wait.
    except: Option<Object>,
}

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let door = Greylist { limiter: surroundings.limiter.clone(), trusted: surroundings.trusted.clone() };
    let only_here = "at other stages than `rcpt`";
    let with_options = "at other stages than `rcpt`, if an option does not exist or is out of its range";
    let check = name("greylist", "check", &[]).until(Stage::Rcpt)
        .doc("() -> status", "Has the client come again if it writes from this network (IPv4 /24, IPv6 /64), as this sender, to this recipient for the first time: `451 4.7.1 Greylisted, try again in 300 seconds`. If it comes again after 300 seconds, and within two days, goes on; once a message was accepted, for 36 days from the latest one. A client of which five such triples were let in is known and waits no more. The null sender, clients that have authenticated and those of `server.relay_from` never wait. In senders, what stands behind `+` and which digits there are makes no difference. Remembered over restarts. If the limiter does not answer within a second, goes on. Put it behind rules that refuse for good. Waits for the limiter.")
        .errors(only_here)
        .example("rule \"greylist\" || greylist::check()");
    let to_check = door.clone();
    registry.waits0(check, Stage::Rcpt, move |shared| to_check.status(shared, &USUAL));
    let check = check
        .doc("(options: map) -> status", "The same with other numbers: `delay`, `window` and `lifetime` in seconds, `known_after` (0 for never), `prefix_v4`, `prefix_v6`, and `except`, a network or a list of networks and addresses of clients that never wait.")
        .errors(with_options)
        .example("rule \"greylist\" || greylist::check(#{ delay: 60, known_after: 3, except: [rg4(\"198.51.100.0/24\")] })");
    let to_check = door.clone();
    registry.waits1(check, Stage::Rcpt, move |shared, map: Map| to_check.status(shared, &options(&map)?));
    let wait = name("greylist", "wait", &[]).until(Stage::Rcpt)
        .doc("() -> int", "The same as a number, for rules that refuse in words of their own: the seconds that the client still has to wait, 0 if it may go on.")
        .errors(only_here)
        .example("if greylist::wait() > 0 { state::reject(\"451 4.7.1 come again\") } else { state::next() }");
    let to_wait = door.clone();
    registry.waits0(wait, Stage::Rcpt, move |shared| to_wait.wait(shared, &USUAL).map(i64::from));
    let wait = wait
        .doc("(options: map) -> int", "The same with other numbers.")
        .errors(with_options)
        .example("greylist::wait(#{ delay: 60 }) <= 60");
    registry
        .waits1(wait, Stage::Rcpt, move |shared, map: Map| door.wait(shared, &options(&map)?).map(i64::from));
}

#[derive(Clone)]
struct Greylist {
    limiter: Arc<dyn Limiter>,
    /// Clients of `server.relay_from`.
    trusted: Arc<[Network]>,
}

impl Greylist {
    fn status(&self, shared: &Shared, options: &Options) -> Outcome<Status> {
        Ok(match self.wait(shared, options)? {
            0 => Status::Next,
            seconds => Status::Reject(come_again(seconds)),
        })
    }

    /// Seconds that the client still waits. What it has waited for is noted, for when its message is accepted.
    fn wait(&self, shared: &Shared, options: &Options) -> Outcome<u32> {
        let Some(triple) = self.triple(&shared.lock(), options)? else { return Ok(0) };
        let wait_s = self.limiter.greylist(triple.clone(), options.terms).unwrap_or(0);
        if wait_s == 0 {
            shared.lock().note_waited((triple, options.terms));
        }
        Ok(wait_s)
    }

    /// Who writes to whom; `None` if that one never waits.
    fn triple(&self, t: &Transaction, options: &Options) -> Outcome<Option<Triple>> {
        if t.stage != Stage::Rcpt {
            return Err(Fault(format!("greylisting is for the stage 'rcpt', not for '{}'", t.stage)));
        }
        let Some(Object::Address(recipient)) = &t.current else {
            return Err(Fault::new("there is no recipient"));
        };
        let sender = t.mail.as_ref().map(|mail| &mail.reverse_path);
        let (Some((ip, _)), Some(ReversePath::Address(sender))) = (t.peer.client, sender) else {
            return Ok(None);
        };
        let is_trusted = t.peer.is_authenticated() || self.trusted.iter().any(|network| network.contains(ip));
        let is_excepted = match &options.except {
            Some(except) => contains(except, &Object::Identifier(t.client_ip.clone()))?,
            None => false,
        };
        if is_trusted || is_excepted {
            return Ok(None);
        }
        let client = Net::of(ip.to_canonical(), if_v4(ip, options.prefix_v4, options.prefix_v6)).bounds().0;
        let recipient = recipient.to_string().to_lowercase();
        Ok(Some(Triple::fitting(client, &summed_up(sender), &recipient)))
    }
}

fn if_v4(ip: IpAddr, v4: u8, v6: u8) -> u8 {
    if ip.to_canonical().is_ipv4() { v4 } else { v6 }
}

/// A sender without what lists and bounce handlers change from message to message: the extension, and digits.
fn summed_up(sender: &Address) -> String {
    let local = sender.local_part();
    let local = local.split_once('+').filter(|(name, _)| !name.is_empty()).map_or(local, |(name, _)| name);
    let mut out = String::new();
    for letter in local.chars() {
        match letter {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            other => out.extend(other.to_lowercase()),
        }
    }
    format!("{out}@{}", sender.domain().as_str().to_lowercase())
}

fn options(map: &Map) -> Outcome<Options> {
    let mut options = USUAL;
    for (key, value) in map {
        let terms = &mut options.terms;
        match key.as_str() {
            "delay" => terms.delay_s = number(key, value, 1, 86_400)?,
            "window" => terms.window_s = number(key, value, 1, MAX_LIFETIME_S)?,
            "lifetime" => terms.lifetime_s = number(key, value, 1, MAX_LIFETIME_S)?,
            "known_after" => terms.known_after = number(key, value, 0, MAX_KNOWN_AFTER)?,
            "prefix_v4" => options.prefix_v4 = prefix(key, value, 32)?,
            "prefix_v6" => options.prefix_v6 = prefix(key, value, 128)?,
            "except" => options.except = Some(Object::from(vec![object(value)?])),
            other => return Err(Fault(format!("greylist:: has no option '{other}'"))),
        }
    }
    let Terms { delay_s, window_s, .. } = options.terms;
    if delay_s >= window_s {
        return Err(Fault(format!("nobody can come again after {delay_s} seconds and within {window_s}")));
    }
    Ok(options)
}

fn number(key: &str, value: &Dynamic, least: u32, most: u32) -> Outcome<u32> {
    let given = value.as_int().ok().and_then(|number| u32::try_from(number).ok());
    given.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
        Fault(format!("the option '{key}' must be a whole number from {least} to {most}, not {value}"))
    })
}

fn prefix(key: &str, value: &Dynamic, bits: u8) -> Outcome<u8> {
    let given = number(key, value, 1, bits.into())?;
    Ok(u8::try_from(given).unwrap_or(bits))
}

fn come_again(seconds: u32) -> Reply {
    let text = format!("Greylisted, try again in {seconds} seconds");
    Reply::fixed(451, EnhancedCode(4, 7, 1), &text)
}
