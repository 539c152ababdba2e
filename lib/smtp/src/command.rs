//! One command line, parsed in two steps: the verb first, because a command out of order is refused whatever its
//! arguments say; then the arguments. A wrong line yields the fault, and the fault knows its reply. Keeps no state.

mod parameters;
mod path;

use vsmtp_mail::{Address, BodyType, MAX_DOMAIN, Notify, OriginalRecipient, Ret, ReversePath, Wishes};

use crate::auth::AUTH_LINE_LIMIT;
use crate::extension::Extensions;
use crate::line::{LINE_LIMIT, PATH_LINE_LIMIT};
use crate::reply::Own;
pub(crate) use path::ForwardPath;

/// The first word of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// HELO.
    Helo,
    /// EHLO.
    Ehlo,
    /// LHLO (RFC 2033).
    Lhlo,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// BDAT.
    Bdat,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
    /// QUIT.
    Quit,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Auth,
    /// XCLIENT.
    XClient,
    /// XFORWARD.
    XForward,
    /// A command that RFCs know and this server does not offer.
    Unoffered,
    /// A verb of HTTP: someone makes a browser or a proxy talk to us.
    Http,
    /// Anything else.
    Unknown,
}

/// What is wrong with a command line.
pub type SyntaxFault = Own;

/// The name that a client gave with HELO, EHLO or LHLO: 1 to 255 octets of letters, digits and `.-_:[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeloName(Box<str>);

/// MAIL FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailRequest {
    /// Who gets the bounces.
    pub reverse_path: ReversePath,
    /// SIZE=, in octets.
    pub size: Option<u64>,
    /// BODY=.
    pub body: BodyType,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// RET=.
    pub ret: Option<Ret>,
    /// ENVID=, decoded.
    pub envid: Option<Box<str>>,
    /// REQUIRETLS.
    pub requiretls: bool,
    /// What is asked of the queue.
    pub wishes: Wishes,
}

/// RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptRequest {
    /// The recipient. `<postmaster>` has got the server's own domain.
    pub address: Address,
    /// NOTIFY=.
    pub notify: Option<Notify>,
    /// ORCPT=, decoded.
    pub original: Option<OriginalRecipient>,
}

/// BDAT (RFC 3030 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkRequest {
    /// Octets that follow the command.
    pub size: u64,
    /// They are the last of the message.
    pub last: bool,
}

/// Verbs in the order of their frequency.
const VERBS: [(&str, Verb); 27] = [
    ("RCPT", Verb::Rcpt),
    ("MAIL", Verb::Mail),
    ("DATA", Verb::Data),
    ("EHLO", Verb::Ehlo),
    ("QUIT", Verb::Quit),
    ("HELO", Verb::Helo),
    ("RSET", Verb::Rset),
    ("NOOP", Verb::Noop),
    ("LHLO", Verb::Lhlo),
    ("VRFY", Verb::Vrfy),
    ("HELP", Verb::Help),
    ("XCLIENT", Verb::XClient),
    ("XFORWARD", Verb::XForward),
    ("EXPN", Verb::Unoffered),
    ("STARTTLS", Verb::StartTls),
    ("AUTH", Verb::Auth),
    ("BDAT", Verb::Bdat),
    ("TURN", Verb::Unoffered),
    ("ETRN", Verb::Unoffered),
    ("SEND", Verb::Unoffered),
    ("SAML", Verb::Unoffered),
    ("GET", Verb::Http),
    ("POST", Verb::Http),
    ("CONNECT", Verb::Http),
    ("HEAD", Verb::Http),
    ("PUT", Verb::Http),
    ("OPTIONS", Verb::Http),
];

impl Verb {
    /// Splits a line (without its CRLF) into verb and arguments; trailing blanks are dropped.
    pub fn split(line: &[u8]) -> Result<(Verb, &str), SyntaxFault> {
        let text = std::str::from_utf8(line).map_err(|_| Own::BadCharacters)?;
        if text.chars().any(char::is_control) {
            return Err(Own::BadCharacters);
        }
        let text = text.trim_end_matches(' ');
        let (word, arguments) = text.split_once(' ').unwrap_or((text, ""));
        let verb = VERBS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        let verb = verb.map_or(Verb::Unknown, |(_, verb)| *verb);
        if line.len() + 2 > verb.line_limit() {
            return Err(Own::LineTooLong);
        }
        Ok((verb, arguments))
    }

    /// Longest line of this command with its CRLF, in octets.
    fn line_limit(self) -> usize {
        match self {
            Verb::Mail | Verb::Rcpt => PATH_LINE_LIMIT,
            Verb::Auth => AUTH_LINE_LIMIT,
            _ => LINE_LIMIT,
        }
    }
}

impl HeloName {
    /// Parses the argument of HELO. Sloppy names (underscores, bare addresses) pass: judging them is policy.
    pub fn parse(arguments: &str) -> Result<Self, SyntaxFault> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
        if arguments.is_empty() || arguments.len() > MAX_DOMAIN || !arguments.bytes().all(allowed) {
            return Err(Own::BadHelo);
        }
        Ok(HeloName(arguments.into()))
    }

    /// The name as the client wrote it; safe in headers and logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MailRequest {
    /// Parses what follows `MAIL `. Parameters of extensions that are not in `offered` are refused with 555.
    pub fn parse(arguments: &str, offered: Extensions) -> Result<Self, SyntaxFault> {
        let rest = strip_keyword(arguments, "FROM:").ok_or(Own::BadMailSyntax)?;
        let (path, rest) = path::split(rest).ok_or(Own::BadMailSyntax)?;
        let reverse_path = path::reverse(path).ok_or(Own::BadSender)?;
        let mut request = MailRequest {
            reverse_path,
            size: None,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            requiretls: false,
            wishes: Wishes::default(),
        };
        parameters::mail(rest, offered, &mut request)?;
        if !path.is_ascii() && !request.smtputf8 {
            return Err(Own::NeedsSmtpUtf8);
        }
        Ok(request)
    }
}

impl ChunkRequest {
    /// Most digits of a size, as many as SIZE= may have.
    const MAX_DIGITS: usize = 20;

    /// Parses what follows `BDAT `. A size beyond 64 bits is larger than any limit, which is all that matters.
    pub(crate) fn parse(arguments: &str) -> Result<Self, SyntaxFault> {
        let mut words = arguments.split(' ').filter(|word| !word.is_empty());
        let (size, last, end) = (words.next().unwrap_or_default(), words.next(), words.next());
        let digits = (1..=Self::MAX_DIGITS).contains(&size.len()) && size.bytes().all(|b| b.is_ascii_digit());
        let is_last = last.is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        if !digits || end.is_some() || last.is_some() != is_last {
            return Err(Own::BadChunk);
        }
        Ok(ChunkRequest { size: size.parse().unwrap_or(u64::MAX), last: is_last })
    }
}

impl RcptRequest {
    /// Parses what follows `RCPT `. `smtputf8` is what MAIL asked for; `postmaster` the domain of `<postmaster>`.
    pub fn parse(
        arguments: &str,
        offered: Extensions,
        smtputf8: bool,
        postmaster: &vsmtp_mail::Domain,
    ) -> Result<Self, SyntaxFault> {
        let rest = strip_keyword(arguments, "TO:").ok_or(Own::BadRcptSyntax)?;
        let (path, rest) = path::split(rest).ok_or(Own::BadRcptSyntax)?;
        let address = match path::forward(path).ok_or(Own::BadRecipient)? {
            ForwardPath::Address(address) => address,
            ForwardPath::Postmaster(local) => {
                Address::new(local, postmaster.clone()).map_err(|_| Own::BadRecipient)?
            }
        };
        if !path.is_ascii() && !smtputf8 {
            return Err(Own::NeedsSmtpUtf8);
        }
        let mut request = RcptRequest { address, notify: None, original: None };
        parameters::rcpt(rest, offered, &mut request)?;
        Ok(request)
    }
}

/// Drops `FROM:` or `TO:`, in any case, and the blanks that many clients write behind it.
fn strip_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let head = text.get(..keyword.len())?;
    let rest = text.get(keyword.len()..)?;
    head.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extension::Extension;
    use vsmtp_mail::Domain;

    fn mail(text: &str) -> Result<MailRequest, Own> {
        MailRequest::parse(text, Extensions::of(&Extension::ALL))
    }

    fn rcpt(text: &str) -> Result<RcptRequest, Own> {
        let name = Domain::parse("mx.test").unwrap();
        RcptRequest::parse(text, Extensions::of(&Extension::ALL), false, &name)
    }

    #[test]
    fn verbs_in_any_case() {
        assert_eq!(Verb::split(b"mAiL FROM:<a@b>"), Ok((Verb::Mail, "FROM:<a@b>")));
        assert_eq!(Verb::split(b"QUIT  "), Ok((Verb::Quit, "")));
        assert_eq!(Verb::split(b" QUIT"), Ok((Verb::Unknown, "QUIT")));
        assert_eq!(Verb::split(b""), Ok((Verb::Unknown, "")));
        assert_eq!(Verb::split(b"GET / HTTP/1.1"), Ok((Verb::Http, "/ HTTP/1.1")));
        for bad in
            [&b"NOOP \xff"[..], b"NOOP \x00", b"NOOP\t", b"NOOP \x7f", b"NO\rOP", "NOOP \u{85}".as_bytes()]
        {
            assert_eq!(Verb::split(bad), Err(Own::BadCharacters), "{bad:?}");
        }
        assert_eq!(Verb::split(&[b'a'; 511]), Err(Own::LineTooLong));
    }

    #[test]
    fn helo_names() {
        for good in ["mx.example.org", "[192.0.2.1]", "[IPv6:::1]", "my_pc", "10.0.0.1", "a."] {
            assert_eq!(HeloName::parse(good).map(|name| name.as_str().to_owned()), Ok(good.to_owned()));
        }
        for bad in ["", "a b", "a\u{e9}", "a(b)", "<a>", "a;b", &"a".repeat(256)] {
            assert_eq!(HeloName::parse(bad), Err(Own::BadHelo), "{bad}");
        }
    }

    #[test]
    fn mail_parameters() {
        let request = mail("FROM:<a@b> SIZE=1000 body=8bitmime SMTPUTF8 RET=HDRS ENVID=x+20y").unwrap();
        assert_eq!((request.size, request.body), (Some(1000), BodyType::EightBitMime));
        assert!(request.smtputf8);
        assert_eq!((request.ret, request.envid.as_deref()), (Some(Ret::Headers), Some("x y")));
        assert_eq!(mail("FROM:<a@b> BODY=binarymime").unwrap().body, BodyType::BinaryMime);
        let unchunked = Extensions::of(&Extension::ALL).without(Extension::BinaryMime);
        let refused = MailRequest::parse("FROM:<a@b> BODY=BINARYMIME", unchunked);
        assert_eq!(refused, Err(Own::BadParameter));
        assert_eq!(mail("from: <>").unwrap().reverse_path, ReversePath::Null);
    }

    #[test]
    fn bad_mail() {
        for (text, fault) in [
            ("", Own::BadMailSyntax),
            ("TO:<a@b>", Own::BadMailSyntax),
            ("FROM:a@b", Own::BadMailSyntax),
            ("FROM:<a@b", Own::BadMailSyntax),
            ("FROM:<a@b>SIZE=1", Own::BadMailSyntax),
            ("FROM:<a@b:25>", Own::BadSender),
            ("FROM:<a>", Own::BadSender),
            ("FROM:< >", Own::BadSender),
            ("FROM:<\u{e9}@b>", Own::NeedsSmtpUtf8),
            ("FROM:<a@b\u{e9}>", Own::NeedsSmtpUtf8),
            ("FROM:<a@b> SIZE=", Own::BadParameter),
            ("FROM:<a@b> SIZE", Own::BadParameter),
            ("FROM:<a@b> SIZE=+1", Own::BadParameter),
            ("FROM:<a@b> SIZE=123456789012345678901", Own::BadParameter),
            ("FROM:<a@b> SIZE=1 SIZE=1", Own::BadParameter),
            ("FROM:<a@b> BODY=BINARY", Own::BadParameter),
            ("FROM:<a@b> SMTPUTF8=1", Own::BadParameter),
            ("FROM:<a@b> RET=ALL", Own::BadParameter),
            ("FROM:<a@b> ENVID=", Own::BadParameter),
            ("FROM:<a@b> ENVID=+00", Own::BadParameter),
            ("FROM:<a@b> ENVID=a+0D+0Ab", Own::BadParameter),
            ("FROM:<a@b> FOO=1", Own::UnknownParameter),
            ("FROM:<a@b> NOTIFY=NEVER", Own::UnknownParameter),
        ] {
            assert_eq!(mail(text), Err(fault), "{text}");
        }
        let none = |text: &str| MailRequest::parse(text, Extensions::NONE);
        for text in ["SIZE=1", "BODY=7BIT", "RET=FULL", "ENVID=a", "SMTPUTF8"] {
            assert_eq!(none(&format!("FROM:<a@b> {text}")), Err(Own::UnknownParameter), "{text}");
        }
    }

    #[test]
    fn chunks() {
        let chunk = |text: &str| ChunkRequest::parse(text).map(|chunk| (chunk.size, chunk.last));
        assert_eq!(chunk("5"), Ok((5, false)));
        assert_eq!(chunk("0  last"), Ok((0, true)));
        assert_eq!(chunk("99999999999999999999 LAST"), Ok((u64::MAX, true)));
        for bad in ["", "LAST", "-1", "+1", "5 LAST x", "5 FIRST", "5LAST", "0x5", "100000000000000000000"] {
            assert_eq!(chunk(bad), Err(Own::BadChunk), "{bad}");
        }
    }

    #[test]
    fn a_size_of_twenty_digits_is_a_size() {
        assert_eq!(mail("FROM:<> SIZE=99999999999999999999").unwrap().size, Some(u64::MAX));
    }

    #[test]
    fn rcpt_paths() {
        let address = |text: &str| rcpt(text).map(|request| request.address.to_string());
        for (text, wanted) in [
            ("TO:<a@B.org>", "a@b.org"),
            ("TO:<@x,@y:a@b>", "a@b"),
            ("TO:<Postmaster>", "Postmaster@mx.test"),
            ("TO:<\"a b\"@c>", "\"a b\"@c"),
            ("TO:<\"a>b\"@c>", "\"a>b\"@c"),
            ("TO:<\"a@b\"@c>", "\"a@b\"@c"),
            ("TO:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
            ("TO:<a%b@c>", "a%b@c"),
        ] {
            assert_eq!(address(text).as_deref(), Ok(wanted), "{text}");
        }
        for bad in [
            "<>",
            "<a>",
            "<a@b:25>",
            "<a@[IPv6:fe80::1%eth0]>",
            "<@x a@b>",
            "<@:a@b>",
            "<@x,y:a@b>",
            "<a@b@c>",
        ] {
            assert_eq!(address(&format!("TO:{bad}")), Err(Own::BadRecipient), "{bad}");
        }
    }

    #[test]
    fn rcpt_parameters() {
        let request = rcpt("TO:<a@b> NOTIFY=SUCCESS,delay ORCPT=rfc822;c+2Bd@e").unwrap();
        assert_eq!(request.notify, Some(Notify { success: true, failure: false, delay: true, stated: true }));
        let original = request.original.unwrap();
        assert_eq!((&*original.kind, &*original.address), ("rfc822", "c+d@e"));
        assert_eq!(rcpt("TO:<a@b> NOTIFY=NEVER").unwrap().notify, Some(Notify::NEVER));
        let utf8 = rcpt("TO:<a@b> ORCPT=utf-8;\\x{5F20}@e").unwrap().original.unwrap();
        assert_eq!(&*utf8.address, "\u{5f20}@e");
        for bad in [
            "NOTIFY=",
            "NOTIFY=NEVER,SUCCESS",
            "NOTIFY=FOO",
            "NOTIFY",
            "ORCPT=a@b",
            "ORCPT=;a",
            "ORCPT=rfc822;",
            "ORCPT=rfc822;+00",
            "ORCPT=rfc822;a+0D+0Ab",
            "ORCPT=rf c;a",
        ] {
            assert!(rcpt(&format!("TO:<a@b> {bad}")).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(proptest::num::u8::ANY, 0..80), tail in "[<>@\",:a-c=+;\\\\ ]{0,30}") {
            let _ = Verb::split(&line);
            let _ = mail(&format!("FROM:<{tail}"));
            let _ = rcpt(&format!("TO:<{tail}"));
            let _ = rcpt(&format!("TO:<a@b> ORCPT={tail}"));
        }
    }
}
