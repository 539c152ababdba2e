//! Limits and manners of the SMTP sessions that clients open with us.

use crate::kind::{
    Bytes, Count, EsmtpByListener, Flag, HOUR, Keywords, Limit, MINUTE, Networks, OneOf, OwnReplies, Period,
    SECOND,
};
use crate::slices::BareNewline;
use crate::table::Preset::{Bool, Int, List, Made, Text};
use crate::value::Value;

keys! {
    /// Keys of SMTP sessions.
    SmtpKeys;

    /// Most recipients of one message (RFC 5321 4.5.3.1.8). One more gets 452.
    rcpt_count_max: Count { min: 1, max: 10_000 } = "server.smtp.rcpt_count_max", default Int(1000),
        example Int(25), for Receiver Filter;

    /// Errors of a client after which each further reply is delayed; -1 for never.
    error_soft: Limit { min: 0, max: 10_000 } = "server.smtp.error.soft_count", default Int(10), example Int(5),
        for Receiver;

    /// Errors of a client after which it gets 421 and the session ends; -1 for never. What rules refuse counts too, for now or for
    /// good, unless its enhanced code is 4.3.x: that speaks of the state of this server.
    error_hard: Limit { min: 1, max: 10_000 } = "server.smtp.error.hard_count", default Int(20), example Int(50),
        for Receiver;

    /// The delay of `server.smtp.error.soft_count`.
    error_delay: Period { min: 0, max: 5 * MINUTE } = "server.smtp.error.delay", default Text("5s"),
        example Text("1s"), for Receiver;

    /// Longest wait for the first command after the greeting.
    timeout_connect: Period { min: SECOND / 100, max: HOUR } = "server.smtp.timeout_client.connect", default Text("5m"),
        example Text("30s"), for Receiver;

    /// Longest wait for a command after HELO or EHLO.
    timeout_helo: Period { min: SECOND / 100, max: HOUR } = "server.smtp.timeout_client.helo", default Text("5m"),
        example Text("30s"), for Receiver;

    /// Longest wait for a command after MAIL.
    timeout_mail: Period { min: SECOND / 100, max: HOUR } = "server.smtp.timeout_client.mail_from", default Text("5m"),
        example Text("30s"), for Receiver;

    /// Longest wait for a command after RCPT.
    timeout_rcpt: Period { min: SECOND / 100, max: HOUR } = "server.smtp.timeout_client.rcpt_to", default Text("5m"),
        example Text("30s"), for Receiver;

    /// Longest wait for the next piece of message data.
    timeout_data: Period { min: SECOND / 100, max: HOUR } = "server.smtp.timeout_client.data", default Text("5m"),
        example Text("30s"), for Receiver;

    /// Longest session, whatever happens in it. It ends with 421 between messages.
    session_timeout: Period { min: MINUTE, max: 24 * HOUR } = "server.smtp.session_timeout", default Text("1h"),
        example Text("30m"), for Receiver;

    /// A CR or LF that stands alone in message data: `refuse` the message, or `normalise` it to CRLF. Neither ever ends
    /// the data.
    bare_newline: OneOf<BareNewline> { of: BareNewline::WORDS } = "server.smtp.bare_newline", default Text("refuse"),
        example Text("normalise"), for Receiver;

    /// Longest line of message data, without its CRLF. RFC 5321 allows 998 octets; much real mail is longer.
    line_length_max: Bytes { min: 998, max: 1 << 30 } = "server.smtp.line_length_max", default Text("1MiB"),
        example Int(998), for Receiver;

    /// Largest header of a message, all fields together.
    header_size_limit: Bytes { min: 16_384, max: 1 << 20 } = "server.smtp.header_size_limit", default Text("256KiB"),
        example Text("100KiB"), for Receiver Filter;

    /// Most Received headers; a message with more is going round in circles and gets 554 (RFC 5321 6.3).
    hop_count_max: Count { min: 10, max: 1000 } = "server.smtp.hop_count_max", default Int(50), example Int(100),
        for Receiver;

    /// Proxies that may say who their client is (XCLIENT), as networks. The client is then treated as if it had come itself.
    /// As whom it has authenticated to them (LOGIN) is for `server.auth.proxies` to say.
    xclient_from: Networks = "server.smtp.xclient_from", default List(&[]), example List(&["192.0.2.8/32"]),
        for Receiver;

    /// Proxies that may say where a message came from (XFORWARD), as networks. It stands in the log and changes nothing.
    xforward_from: Networks = "server.smtp.xforward_from", default List(&[]), example List(&["192.0.2.9/32"]),
        for Receiver;

    /// Answer EHLO with 502, so that clients fall back to HELO: there is then neither STARTTLS nor AUTH, nor any other extension.
    /// Programs of this host, at the local socket, are still answered.
    disable_ehlo: Flag = "server.smtp.disable_ehlo", default Bool(false), example Bool(true), for Receiver;

    /// Answer VRFY, with 252 for every address; otherwise with 502. Neither tells who exists.
    vrfy: Flag = "server.smtp.vrfy", default Bool(true), example Bool(false), for Receiver;

    /// Announce PIPELINING (RFC 2920).
    pipelining: Flag = "server.esmtp.pipelining", default Bool(true), example Bool(false), for Receiver;

    /// Announce 8BITMIME (RFC 6152).
    eightbitmime: Flag = "server.esmtp.eightbitmime", default Bool(true), example Bool(false), for Receiver;

    /// Announce CHUNKING, and with 8BITMIME also BINARYMIME (RFC 3030).
    chunking: Flag = "server.esmtp.chunking", default Bool(true), example Bool(false), for Receiver;

    /// Announce DSN (RFC 3461): senders choose which delivery reports they want, and may have success reported.
    dsn: Flag = "server.esmtp.dsn", default Bool(true), example Bool(false), for Receiver;

    /// Announce SMTPUTF8 (RFC 6531), where 8BITMIME is announced too: addresses and headers in any script.
    smtputf8: Flag = "server.esmtp.smtputf8", default Bool(true), example Bool(false), for Receiver;

    /// Let clients that have authenticated call a message more urgent than others (MT-PRIORITY from 1 to 9, RFC 6710). Otherwise
    /// such a message counts as 0, and the reply to MAIL says so; rules may raise it.
    priority_raise: Flag = "server.esmtp.priority_raise", default Bool(false), example Bool(true), for Receiver;

    /// Keywords that EHLO does not list although the server would do what they say, for clients that stumble over them.
    discard: Keywords = "server.esmtp.discard", default List(&[]), example List(&["LIMITS"]), for Receiver;

    /// Addresses of `server.interfaces` where EHLO is otherwise than these keys say: `discard` stands for `server.esmtp.discard`, and in
    /// `server.interfaces.addr` `auth: false` turns AUTH off: clients log in elsewhere. What a row does not say is there as everywhere.
    listeners: EsmtpByListener = "server.esmtp.listeners", default Made(Value::map), example Made(example_listener), for Receiver;

    /// Texts of the server's own replies, by the names of vSMTP 1.x; `Denied` and `Failure` are also what `deny()` and `reject()`
    /// say without a code. Each is a whole reply, or a map of `code`, `enhanced` and `text`; its text counts,
    /// and its enhanced code if it has one; codes are what the protocol asks for (of a reply with another only the text counts, and a
    /// warning says so). `{name}` and `{domain}` stand for `server.name`, which
    /// `Greetings` and `Helo` begin with in any case.
    replies: OwnReplies = "server.smtp.codes", default Made(Value::map), example Made(example_replies), for Receiver Filter;
}

fn example_listener() -> Value {
    let mut own = Value::map();
    own.set("auth", Value::Bool(false));
    own.set("discard", Value::List(vec![Value::Text("CHUNKING".to_owned())]));
    Value::Map([("0.0.0.0:25".to_owned(), own)].into())
}

fn example_replies() -> Value {
    let mut replies = Value::map();
    replies.set("Greetings", Value::Text("220 {name} at your service".to_owned()));
    replies.set("Closing", Value::Text("221 2.0.0 Come again".to_owned()));
    replies
}
