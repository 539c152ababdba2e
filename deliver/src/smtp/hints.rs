//! What servers ask for in the words of their temporary refusals: to come back later, more slowly, with fewer connections.
//! One table. Pure; what is not in it has no effect beyond the refusal itself, and a 5xx never has one. What is said of one
//! recipient never holds up mail for others, and words that others chose (the addresses) are not looked at.

use vsmtp_ipc::edge::queue_deliver::Advice;
use vsmtp_mail::Reply;

/// Longest wait that a server's words get from us. What is longer is as good as the usual waits.
const MAX_WAIT_S: u32 = 4 * 3600;
/// Shortest: clocks differ, and whoever says "0 seconds" means something else.
const MIN_WAIT_S: u32 = 30;
/// Octets of a reply that are looked at.
const MAX_WORDS: usize = 1024;
/// The code of a server that refuses everything from now on (RFC 5321 3.8), whatever it answers.
const CLOSING: u16 = 421;

/// Whom a reply is about, by the command it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// All that comes from us: the reply to a connection, to EHLO, to MAIL.
    Host,
    /// One recipient or one message: any later reply. Who may write to a busy mailbox must not be able to stop a whole next
    /// hop.
    Recipient,
}

/// What a row of the table gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// The recipients wait: as long as the text says, or so many seconds.
    Wait(u32),
    /// Fewer connections.
    Fewer,
    /// A pause for the whole next hop and fewer connections: as long as the text says, or so many seconds.
    Pause(u32),
    /// The recipients wait as long as the text says. No time, no effect.
    WaitAsSaid,
}

/// One row.
#[derive(Debug)]
struct Row {
    /// Any of these in the reply, in lower case. Words of an enhanced code count as they stand.
    words: &'static [&'static str],
    gives: Gives,
    /// A reply of a server that means this; the tests hold the row to it.
    #[cfg_attr(not(test), expect(dead_code, reason = "the sample explains the row; tests read it"))]
    sample: &'static str,
}

/// The first row that fits counts.
static ROWS: &[Row] = &[
    Row {
        words: &["greylist", "graylist", "grey list", "gray list", "grey-list", "gray-list"],
        gives: Gives::Wait(300),
        sample: "450 4.2.0 <b@dst.test>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/",
    },
    Row {
        words: &["receiving mail at a rate"],
        gives: Gives::Wait(300),
        sample: "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents delivery",
    },
    Row {
        words: &["too many connections", "too many concurrent", "too many sessions", "too many simultaneous"],
        gives: Gives::Fewer,
        sample: "421 4.7.0 mx.dst.test Error: too many connections from 192.0.2.1",
    },
    Row {
        words: &[
            "connection limit",
            "connections limit",
            "maximum number of connections",
            "concurrent connections",
        ],
        gives: Gives::Fewer,
        sample: "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel",
    },
    Row {
        words: &["connection rate", "connection frequency"],
        gives: Gives::Pause(60),
        sample: "421 4.7.0 Connection rate limit exceeded",
    },
    Row {
        words: &[
            "rate limit",
            "rate-limit",
            "ratelimit",
            "rate exceeded",
            "limit exceeded",
            "exceeded the rate",
        ],
        gives: Gives::Pause(300),
        sample: "450 4.7.1 Error: too much mail from 192.0.2.1, rate limit",
    },
    Row {
        words: &["too much mail", "too many messages", "too many emails", "throttl"],
        gives: Gives::Pause(300),
        sample: "450 4.7.1 Error: too much mail from 192.0.2.1",
    },
    Row {
        words: &["4.7.28", "unusual rate", "unusual volume", "unexpected volume"],
        gives: Gives::Pause(600),
        sample: "421 4.7.28 Our system has detected an unusual rate of unsolicited mail from your address",
    },
    Row {
        words: &["temporarily deferred", "temporarily rate", "temporarily blocked"],
        gives: Gives::Pause(1800),
        sample: "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
    },
    Row {
        words: &["too fast", "slow down"],
        gives: Gives::Pause(60),
        sample: "421 4.7.0 You are sending too fast, please slow down",
    },
    Row {
        words: &["server busy", "too busy", "system load", "load too high", "load is too high"],
        gives: Gives::Pause(60),
        sample: "451 4.7.500 Server busy. Please try again later from [192.0.2.1]",
    },
    Row {
        words: &["try again", "retry", "come back", "wait", "try later"],
        gives: Gives::WaitAsSaid,
        sample: "451 4.7.1 Please try again in 10 minutes",
    },
];

/// What a reply asks for. Of what is said of a recipient, only when to come back counts.
pub fn advice(reply: &Reply, subject: Subject) -> Advice {
    let advice = asked_for(reply);
    match subject {
        Subject::Recipient if reply.code() != CLOSING => {
            Advice { retry_after_s: advice.retry_after_s, ..Advice::default() }
        }
        Subject::Host | Subject::Recipient => advice,
    }
}

fn asked_for(reply: &Reply) -> Advice {
    let mut words = reply.to_string().to_ascii_lowercase();
    let mut end = words.len().min(MAX_WORDS);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words.truncate(end);
    if reply.code() / 100 != 4 {
        return Advice::default();
    }
    let words = without_addresses(&words);
    let Some(row) = row(&words) else { return Advice::default() };
    let wait = |usual: u32| said(&words).unwrap_or(usual).clamp(MIN_WAIT_S, MAX_WAIT_S);
    match row.gives {
        Gives::Wait(usual) => Advice { retry_after_s: wait(usual), ..Advice::default() },
        Gives::Fewer => Advice { fewer: true, ..Advice::default() },
        Gives::Pause(usual) => {
            let pause_s = wait(usual);
            Advice { pause_s, fewer: true, retry_after_s: pause_s }
        }
        Gives::WaitAsSaid if said(&words).is_some() => Advice { retry_after_s: wait(0), ..Advice::default() },
        Gives::WaitAsSaid => Advice::default(),
    }
}

/// The words without what others may have put into them: `<...>`, quoted local parts, and whatever has an `@`.
fn without_addresses(words: &str) -> String {
    let (mut kept, mut rest) = (String::with_capacity(words.len()), words);
    while let Some(at) = rest.find(['<', '"']) {
        let (before, from) = rest.split_at(at);
        kept.push_str(before);
        let end = if from.starts_with('<') { bracketed(from) } else { quoted_local_part(from) };
        let (cut, left) = from.split_at(end.unwrap_or(1));
        // What has no end is no address.
        kept.push_str(if end.is_some() { " " } else { cut });
        rest = left;
    }
    kept.push_str(rest);
    let words: Vec<&str> = kept.split_whitespace().filter(|word| !word.contains('@')).collect();
    words.join(" ")
}

/// Length of `<...>`. A `>` in quotes does not end it.
fn bracketed(from: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        let found = from.get(at..)?.find(['>', '"'])? + at;
        match quoted(from.get(found..)?) {
            Some(length) => at = found + length,
            None if from.get(found..)?.starts_with('>') => return Some(found + 1),
            None => at = found + 1,
        }
    }
}

/// Length of a quoted string that an `@` follows, with what it is part of.
fn quoted_local_part(from: &str) -> Option<usize> {
    let length = quoted(from)?;
    let domain = from.get(length..)?.strip_prefix('@')?;
    let end = domain.find(char::is_whitespace).unwrap_or(domain.len());
    Some(length + 1 + end)
}

/// Length of a quoted string (RFC 5321 4.1.2), if one begins here and ends.
fn quoted(from: &str) -> Option<usize> {
    let mut escaped = false;
    let inside = from.strip_prefix('"')?;
    let end = inside.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some(end + 2)
}

fn row(words: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.words.iter().any(|word| words.contains(word)))
}

/// A time in the text, in seconds: a number and a unit ("5 minutes", "300s", "1 hour"), or a clock ("00:05:00"). The first
/// one counts.
fn said(words: &str) -> Option<u32> {
    let tokens =
        words.split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | '[' | ']' | ';' | '='));
    let tokens: Vec<&str> = tokens.map(|token| token.trim_end_matches(['.', '!'])).collect();
    tokens.iter().enumerate().find_map(|(at, token)| {
        let digits = token.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = token.split_at(digits);
        if let Some(rest) = unit.strip_prefix(':') {
            return clock(number, rest);
        }
        let number: u32 = number.parse().ok()?;
        let unit = if unit.is_empty() { tokens.get(at + 1)? } else { unit };
        number.checked_mul(unit_s(unit)?)
    })
}

fn unit_s(unit: &str) -> Option<u32> {
    Some(match unit {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        _ => return None,
    })
}

/// `MM:SS` or `HH:MM:SS`, of which the first number was cut off.
fn clock(first: &str, rest: &str) -> Option<u32> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() <= 2);
    let (first, parts): (u32, Vec<&str>) = (number(first)?, rest.split(':').collect());
    match parts.as_slice() {
        [seconds] => Some(first * 60 + number(seconds)?),
        [minutes, seconds] => Some(first * 3600 + number(minutes)? * 60 + number(seconds)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Advice {
        advice(&Reply::parse(text).unwrap(), Subject::Host)
    }

    #[test]
    fn each_row_is_the_first_that_fits_its_sample_and_gives_what_it_says() {
        for (at, expected) in ROWS.iter().enumerate() {
            let found = row(&expected.sample.to_ascii_lowercase()).unwrap();
            assert!(std::ptr::eq(found, expected), "row {at} is hidden by {:?}", found.sample);
            let advice = of(expected.sample);
            match expected.gives {
                Gives::Wait(wait) => {
                    assert_eq!((advice.retry_after_s, advice.pause_s), (wait, 0), "row {at}")
                }
                Gives::Fewer => assert_eq!((advice.fewer, advice.retry_after_s), (true, 0), "row {at}"),
                Gives::Pause(pause) => assert_eq!((advice.fewer, advice.pause_s), (true, pause), "row {at}"),
                Gives::WaitAsSaid => {
                    assert_eq!((advice.retry_after_s, advice.fewer), (600, false), "row {at}")
                }
            }
            let never = expected.sample.replacen('4', "5", 1).replacen(" 4.", " 5.", 1);
            assert_eq!(of(&never), Advice::default(), "row {at} as {never}");
        }
    }

    #[test]
    fn what_is_said_of_one_recipient_never_stops_others() {
        for row in ROWS {
            let reply = Reply::parse(row.sample).unwrap();
            let (host, recipient) = (advice(&reply, Subject::Host), advice(&reply, Subject::Recipient));
            if reply.code() == CLOSING {
                assert_eq!(recipient, host, "{}", row.sample);
            } else {
                let expected = Advice { retry_after_s: host.retry_after_s, ..Advice::default() };
                assert_eq!(recipient, expected, "{}", row.sample);
            }
        }
        let busy =
            "450 4.2.1 The user you are trying to contact is receiving mail at a rate that is too high";
        assert_eq!(of(busy), Advice { retry_after_s: 300, ..Advice::default() });
    }

    #[test]
    fn words_of_an_address_are_not_the_servers() {
        for address in [
            "<throttled@dst.test>",
            "throttled@dst.test",
            "throttled@[192.0.2.1]:",
            "<\"rate limit\"@dst.test>",
            "\"rate limit\"@dst.test:",
            "<\"> rate limit <\"@dst.test>",
            "<\"\\\"> rate limit \"@dst.test>",
            "<a@server-busy.rate-limit.test>,",
        ] {
            let said = |words: &str| of(&format!("450 4.2.0 {address} {words}"));
            assert_eq!(said("mailbox is full"), Advice::default(), "{address}");
            assert_eq!(said("slow down").pause_s, 60, "{address}");
        }
        assert_eq!(of("450 load < 5, too busy").pause_s, 60);
        assert_eq!(of("450 \"rate limit\" of you").pause_s, 300);
    }

    #[test]
    fn each_word_of_each_row_is_found_by_its_row() {
        for (at, expected) in ROWS.iter().enumerate() {
            for word in expected.words {
                let found = row(&format!("450 4.7.1 xx {word} yy")).unwrap();
                assert!(std::ptr::eq(found, expected), "{word:?} of row {at}");
            }
        }
    }

    #[test]
    fn times_are_read_as_servers_write_them() {
        for (text, seconds) in [
            ("450 4.2.0 Greylisted for 5 minutes", 300),
            ("451 4.7.1 Greylisting in action, please come back in 00:04:32", 272),
            ("451 4.7.1 greylisted, try again in 04:32", 272),
            ("450 Greylisted, please try again in 299 seconds.", 299),
            ("451 4.7.1 Please wait 120s before trying again", 120),
            ("450 4.7.1 please retry (1 hour)", 3600),
            ("450 try again in 3min", 180),
            ("450 try again in 9 hours", MAX_WAIT_S),
            ("450 try again in 0 seconds", MIN_WAIT_S),
            ("450 try again in 99999999999 seconds", 0),
            ("450 try again in 4000000 hours", 0),
            ("450 try again after 3 attempts", 0),
            ("450 try again later", 0),
            ("450 mailbox has 5 minutes of video", 0),
        ] {
            assert_eq!(of(text).retry_after_s, seconds, "{text}");
        }
        assert_eq!(of("421 rate limit exceeded, slow down for 10 minutes").pause_s, 600);
    }

    #[test]
    fn hostile_words_do_no_harm() {
        for text in [
            "450 ",
            "450 <",
            "450 <\"\\",
            "450 \"é\"@",
            "450 \"\"@é <é\"é\">",
            "450 try again in :: :1 1: 1:2:3:4 :s 1:60:99 é",
            "450 wait 00:1é:00",
        ] {
            let _ = of(text);
        }
        let long = format!("450 {}é wait 5 minutes", "x".repeat(MAX_WORDS));
        assert!(Reply::parse(&long).is_err() || of(&long) == Advice::default());
    }
}
