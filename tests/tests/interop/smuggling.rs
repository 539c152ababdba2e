//! S8 and S9 through us into other people's servers: what a client hides in a message stays in that message. Each attack is
//! one message here, refused or accepted; behind us it is one message or none, whatever the next server thinks of line ends,
//! wherever in the message it stands, and whatever our rules have put beside it. Exim is spoken to under TLS, Postfix in clear.

use vsmtp_tests::{Client, Exim, Mta, Postfix, Settings, needs_programs, needs_root, wait_until};

const BREAKS: [&[u8]; 5] = [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\0"];
/// What stands in front of the attack: nothing, some of the header, all of it, the body.
const PLACES: [&[u8]; 4] =
    [b"", b"Subject: attack\r\nX-More: text", b"Subject: attack\r\n", b"Subject: attack\r\n\r\ntext"];
/// Senders whose mail rules change, each in its way.
const SENDERS: [&str; 3] = ["none", "prepend", "append"];
const RULES: &str = r#"#{ preq: [ action "edit" || {
    if ctx::mail_from() is "prepend@src.test" { msg::prepend_header("X-First", "1"); }
    if ctx::mail_from() is "append@src.test" { msg::append_header("X-Last", "1"); }
} ] }"#;

/// A row of the table.
struct Row {
    bare_newline: &'static str,
    /// To the next server they go by BDAT, or by DATA.
    by_bdat: bool,
    /// How many of the attacks from each sender are messages that we take: those without a lone CR or LF, or all.
    taken: [usize; 3],
    /// How many of these have a NUL: they are no text, and go by DATA all the same.
    no_text: usize,
}

const ROWS: [Row; 3] = [
    Row { bare_newline: "refuse", by_bdat: false, taken: [28, 4, 4], no_text: 24 },
    Row { bare_newline: "normalise", by_bdat: false, taken: [192, 68, 68], no_text: 72 },
    Row { bare_newline: "normalise", by_bdat: true, taken: [192, 68, 68], no_text: 72 },
];

impl Row {
    fn relay(&self, port: u16) -> Mta {
        relay(port, self.bare_newline, self.by_bdat)
    }

    /// How many must have gone by BDAT.
    fn chunked(&self) -> usize {
        if self.by_bdat { self.taken.iter().sum::<usize>() - self.no_text } else { 0 }
    }
}

/// What stands in the message: to a server that takes its middle for an end, three commands and a second message.
fn attack(place: &[u8], before: &[u8], after: &[u8]) -> Vec<u8> {
    [
        place,
        before,
        b".",
        after,
        b"MAIL FROM:<smuggled@src.test>\r\nRCPT TO:<victim@dst.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n",
    ]
    .concat()
}

/// All of them; where rules edit, those that rules could take for ends of lines.
fn breaks(sender: &str) -> impl Iterator<Item = (&'static [u8], &'static [u8])> {
    let few = if sender == "none" { BREAKS.len() } else { 3 };
    BREAKS
        .into_iter()
        .take(few)
        .flat_map(move |before| BREAKS.into_iter().take(few).map(move |after| (before, after)))
}

/// Sends the message in two chunks, which part where it hurts most; the last reply.
fn send_chunks(client: &mut Client, message: &[u8]) -> vsmtp_tests::ReplyText {
    let (begin, end) = message.split_at(message.len() / 4);
    client.send(&[format!("BDAT {}\r\n", begin.len()).as_bytes(), begin].concat());
    assert!(client.reply().code() > 0);
    client.send(&[format!("BDAT {} LAST\r\n", end.len()).as_bytes(), end].concat());
    client.reply()
}

/// Sends an attack; true if it was accepted, and it was one message.
fn send(mta: &Mta, mail: &str, message: &[u8], by_chunks: bool) -> bool {
    let mut client = Client::hello(mta.port());
    assert_eq!(client.say(mail).code(), 250, "{mail}");
    assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
    let reply = if by_chunks {
        send_chunks(&mut client, message)
    } else {
        assert_eq!(client.say("DATA").code(), 354);
        client.send(&[message, b".\r\n"].concat());
        client.reply()
    };
    let said = String::from_utf8_lossy(message);
    assert!(reply.code() == 250 || reply.code() >= 500, "{said:?}: {reply:?}");
    // The session is where it was: no command of the message has been taken for one.
    assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 503, "{said:?}");
    assert_eq!(client.say("QUIT").code(), 221);
    reply.code() == 250
}

/// Sends all attacks; how many messages of each sender were accepted, and none of them was two.
fn attack_through(mta: &Mta) -> [usize; 3] {
    let accepted = SENDERS.map(|sender| {
        let mail = format!("MAIL FROM:<{sender}@src.test>");
        let mut accepted = 0;
        for (place, (before, after)) in
            PLACES.into_iter().flat_map(|place| breaks(sender).map(move |it| (place, it)))
        {
            let message = attack(place, before, after);
            // By DATA this one is no attack: that is how a message ends.
            let is_an_end = before.ends_with(b"\r\n") && after == b"\r\n";
            for by_chunks in [false, true] {
                if by_chunks || !is_an_end {
                    accepted += usize::from(send(mta, &mail, &message, by_chunks));
                }
            }
        }
        accepted
    });
    wait_until("the queue is empty", || mta.queued() == 0);
    accepted
}

fn relay(port: u16, bare_newline: &str, by_bdat: bool) -> Mta {
    let config = format!(
        "config.delivery.relayhost = \"[127.0.0.1]:{port}\"; config.server.smtp.bare_newline = \"{bare_newline}\";\n\
         config.delivery.chunking = {by_bdat};"
    );
    Mta::start(&Settings { config, filter: RULES.to_owned() })
}

/// Each accepted message has arrived whole, and nothing else has.
fn check(messages: &[Vec<u8>], accepted: [usize; 3]) {
    assert_eq!(messages.len(), accepted.iter().sum::<usize>(), "a message has become two, or none");
    let mut edited = [0, 0];
    for message in messages {
        let text = String::from_utf8_lossy(message);
        assert!(text.contains("<victim@dst.test>") && text.contains("evil"), "it was cut: {text}");
        edited[0] += usize::from(text.contains("X-First: 1"));
        edited[1] += usize::from(text.contains("X-Last: 1"));
    }
    assert_eq!(edited, accepted[1..], "rules have edited what they should");
}

/// How often a command has come, by what Postfix says at the end of each session.
fn commands(postfix: &Postfix, name: &str) -> usize {
    let log = postfix.log();
    let words = log.lines().filter(|line| line.contains("disconnect from ")).flat_map(str::split_whitespace);
    let counts = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse::<usize>().ok());
    counts.sum()
}

#[test]
fn nothing_is_smuggled_through_us_into_postfix() {
    const TEST: &str = "nothing_is_smuggled_through_us_into_postfix";
    if !(needs_programs(TEST, &["postfix", "postcat"]) && needs_root(TEST)) {
        return;
    }
    for row in ROWS {
        let postfix = Postfix::holding();
        let accepted = attack_through(&row.relay(postfix.port()));
        assert_eq!(accepted, row.taken, "{}", row.bare_newline);
        let count = accepted.iter().sum();
        check(&postfix.wait_for_held(count), accepted);
        assert!(!postfix.log().contains("from=<smuggled@src.test>"), "{}", postfix.log());
        wait_until("postfix has seen the end of all sessions", || commands(&postfix, "mail") == count);
        let [data, bdat] = ["data", "bdat"].map(|name| commands(&postfix, name));
        assert_eq!((data, bdat), (count - row.chunked(), row.chunked()), "{}", row.bare_newline);
    }
}

#[test]
fn nothing_is_smuggled_through_us_into_exim() {
    if !crate::exim::can_run("nothing_is_smuggled_through_us_into_exim") {
        return;
    }
    for row in ROWS {
        let exim = Exim::keeping();
        let accepted = attack_through(&row.relay(exim.port()));
        assert_eq!(accepted, row.taken, "{}", row.bare_newline);
        wait_until("exim has them all", || exim.kept().len() >= accepted.iter().sum());
        check(&exim.kept(), accepted);
        let log = exim.log();
        assert!(!log.contains("<= smuggled@src.test"), "{log}");
        let came: Vec<&str> = log.lines().filter(|line| line.contains(" <= ")).collect();
        assert!(came.iter().all(|line| line.contains(" X=TLS1.3:")), "{log}");
        assert_eq!(came.iter().filter(|line| line.contains(" K ")).count(), row.chunked(), "{log}");
    }
}

/// What is sent as binary may have any octet in its body, and neither of these servers takes such: it reaches them in
/// other clothes.
#[test]
fn nothing_is_smuggled_through_us_in_binary() {
    const TEST: &str = "nothing_is_smuggled_through_us_in_binary";
    if !(needs_programs(TEST, &["postfix", "postcat"]) && crate::exim::can_run(TEST)) {
        return;
    }
    let (postfix, exim) = (Postfix::holding(), Exim::keeping());
    let place = b"Subject: attack\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n\
                  Content-Transfer-Encoding: binary\r\n\r\ntext";
    for port in [postfix.port(), exim.port()] {
        let mta = relay(port, "refuse", true);
        for (before, after) in breaks("none") {
            let message = attack(place, before, after);
            assert!(send(&mta, "MAIL FROM:<none@src.test> BODY=BINARYMIME", &message, true), "{message:?}");
        }
        wait_until("the queue is empty", || mta.queued() == 0);
    }
    let count = breaks("none").count();
    wait_until("exim has them all", || exim.kept().len() >= count);
    for kept in [postfix.wait_for_held(count), exim.kept()] {
        assert_eq!(kept.len(), count, "a message has become two, or none");
        let is_encoded = |message: &&Vec<u8>| {
            let text = String::from_utf8_lossy(message).into_owned();
            assert!(text.contains("base64") != text.contains("evil"), "{text}");
            text.contains("base64")
        };
        // One of them is made of lines, and goes as it is.
        assert_eq!(kept.iter().filter(is_encoded).count(), count - 1);
    }
    assert!(!postfix.log().contains("from=<smuggled@") && !exim.log().contains("<= smuggled@"));
}
