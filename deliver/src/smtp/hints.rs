//! What servers ask for in the words of their temporary refusals: to come back later, more slowly, with fewer connections.
//! One table. Pure; what is not in it has no effect beyond the refusal itself, and a 5xx never has one.

use vsmtp_ipc::edge::queue_deliver::Advice;
use vsmtp_mail::Reply;

/// Longest wait that a server's words get from us. What is longer is as good as the usual waits.
const MAX_WAIT_S: u32 = 4 * 3600;
/// Shortest: clocks differ, and whoever says "0 seconds" means something else.
const MIN_WAIT_S: u32 = 30;
/// Octets of a reply that are looked at.
const MAX_WORDS: usize = 1024;

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
        words: &[
            "too much mail",
            "too many messages",
            "too many emails",
            "throttl",
            "receiving mail at a rate",
        ],
        gives: Gives::Pause(300),
        sample: "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents delivery",
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

/// What a reply asks for.
pub fn advice(reply: &Reply) -> Advice {
    let mut words = reply.to_string().to_ascii_lowercase();
    let mut end = words.len().min(MAX_WORDS);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words.truncate(end);
    if reply.code() / 100 != 4 {
        return Advice::default();
    }
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
        advice(&Reply::parse(text).unwrap())
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
        for text in ["450 ", "450 try again in :: :1 1: 1:2:3:4 :s 1:60:99 é", "450 wait 00:1é:00"] {
            let _ = of(text);
        }
        let long = format!("450 {}é wait 5 minutes", "x".repeat(MAX_WORDS));
        assert!(Reply::parse(&long).is_err() || of(&long) == Advice::default());
    }
}
