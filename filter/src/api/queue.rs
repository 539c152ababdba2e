//! `queue::`: what becomes of the message in the queue.

use std::time::Duration;

use vsmtp_mail::{MAX_LIFETIME_S, MAX_WAIT_S, Priority, escape_text, parse_duration};

use super::registry::{Outcome, Registry, name};
use crate::object::Fault;
use crate::stage::Stage;

/// Longest reason to hold a message, in octets; what is longer is cut.
const MAX_REASON: usize = 500;
/// Shortest lifetime that a rule can give: a first attempt must have its time.
const MIN_LIFETIME: Duration = Duration::from_secs(60);

pub(super) fn register(registry: &mut Registry) {
    let hold = name("queue", "hold", &[])
        .doc("()", "Keeps the message in the queue until an operator releases it. At `connect` and `helo`: every message of the session.")
        .example("queue::hold()");
    registry.on0(hold, Stage::Connect, |t| {
        t.hold = Some(Box::default());
        Ok(())
    });
    let hold = hold
        .doc(
            "(reason: string)",
            "The same with a reason, which `vsmtpctl queue list` and `show` tell. It is cut at 500 octets.",
        )
        .example("queue::hold(`sent by ${ctx::client_ip()}`)");
    registry.text1(hold, Stage::Connect, |t, why| {
        t.hold = Some(reason(why));
        Ok(())
    });
    let priority = name("queue", "priority", &[])
        .doc("(number: int)", "How urgent the message is, from -9 to 9; 0 if no rule says. Messages above 0 go before others, those below 0 behind them: of thirteen attempts that begin while all three have something to do, nine are for what is urgent, three for the usual, and one for what can wait, so that nothing waits for ever.")
        .errors("if the number is not from -9 to 9")
        .example("queue::priority(-5); queue::priority() == -5");
    registry.on1(priority, Stage::Mail, |t, number: i64| {
        let wrong = || Fault(format!("a priority is from -9 to 9, not {number}"));
        t.terms.priority = Priority::new(number).ok_or_else(wrong)?;
        Ok(())
    });
    let read = priority
        .doc("() -> int", "How urgent the message is so far.")
        .errors("")
        .example("queue::priority() == 0");
    registry.on0(read, Stage::Mail, |t| Ok(i64::from(t.terms.priority.number())));
    let expire = name("queue", "expire_after", &[])
        .doc("(duration: string)", "Gives the message a lifetime of its own, such as `\"2h\"`, from its arrival, or from the time until which it is kept back: whom it has not reached then it fails for, and the sender is told. It may be longer than `queue.lifetime`. Nothing is tried behind its end; while the message is held, its end waits for the release. If the end has come by the time of a release, a requeue or a start of the server, each next hop is tried once more; after a start retries go on for up to an hour, for the clock may have been wrong.")
        .errors("if it is no duration from one minute to a hundred days")
        .example("queue::expire_after(\"2h\")");
    registry.text1(expire, Stage::Mail, |t, duration| {
        t.terms.lifetime_s = Some(lifetime_s(duration)?);
        Ok(())
    });
    let later = name("queue", "deliver_after", &[])
        .doc("(duration: string)", "Keeps the message back for a time from its arrival on, such as `\"10m\"`, before the first attempt, in the place of what its client has asked for by HOLDFOR or HOLDUNTIL; `\"0s\"` lets it go at once. Its lifetime and warnings of delay begin behind that. An operator may flush it before.")
        .errors("if it is no duration of at most thirty days")
        .example("queue::deliver_after(\"10m\")");
    registry.text1(later, Stage::Mail, |t, duration| {
        let wrong = || Fault(format!("'{duration}' is no time of at most thirty days"));
        let most = Duration::from_secs(MAX_WAIT_S.into());
        let wait = parse_duration(duration).filter(|wait| *wait <= most).ok_or_else(wrong)?;
        let at_s = t.mail.as_ref().map_or(0, |mail| mail.at_ms / 1000);
        t.terms.not_before_s = Some(at_s + wait.as_secs()).filter(|_| wait > Duration::ZERO);
        Ok(())
    });
}

/// What a client may have chosen is shown to operators: without control characters, and not too much of it.
fn reason(text: &str) -> Box<str> {
    let text = escape_text(text);
    let end =
        text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_REASON).last();
    text.get(..end.unwrap_or(0)).unwrap_or_default().into()
}

fn lifetime_s(text: &str) -> Outcome<u32> {
    let most = Duration::from_secs(MAX_LIFETIME_S.into());
    let within = |duration: &Duration| (MIN_LIFETIME..=most).contains(duration);
    let lifetime = parse_duration(text).filter(within);
    let seconds = lifetime.and_then(|lifetime| u32::try_from(lifetime.as_secs()).ok());
    seconds.ok_or_else(|| Fault(format!("'{text}' is no lifetime from one minute to a hundred days")))
}
