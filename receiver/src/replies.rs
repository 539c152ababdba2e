//! Our own replies as the configuration has them: which replies each of its names stands for. Codes never change; texts and
//! enhanced codes do.

use vsmtp_config::ReceiverSlice;
use vsmtp_smtp::{Own, Replies};

/// The names of the configuration, and what each stands for. `Greetings` and `Helo` are not among [`Own`]; `Denied` and
/// `Failure` are said by the filter.
const ROWS: &[(&str, &[Own])] = &[
    ("Help", &[Own::Help]),
    ("Closing", &[Own::Closing]),
    ("DataStart", &[Own::DataStart]),
    ("Ok", &[Own::Ok, Own::SenderOk, Own::RecipientOk, Own::MessageOk, Own::ChunkOk]),
    ("Failure", &[Own::Unavailable]),
    ("UnrecognizedCommand", &[Own::UnknownCommand]),
    (
        "SyntaxErrorParams",
        &[
            Own::BadArguments,
            Own::BadHelo,
            Own::BadMailSyntax,
            Own::BadRcptSyntax,
            Own::BadParameter,
            Own::BadChunk,
        ],
    ),
    ("ParameterUnimplemented", &[Own::UnknownParameter]),
    ("Unimplemented", &[Own::NotImplemented]),
    (
        "BadSequence",
        &[
            Own::HeloFirst,
            Own::LhloFirst,
            Own::NestedMail,
            Own::MailFirst,
            Own::MessageBegun,
            Own::BinaryNeedsBdat,
            Own::RcptFirst,
            Own::InTransaction,
        ],
    ),
    ("MessageSizeExceeded", &[Own::MessageTooBig]),
    ("TlsGoAhead", &[Own::StartTls]),
    ("TlsNotAvailable", &[Own::TlsUnavailable]),
    ("AlreadyUnderTls", &[Own::TlsActive]),
    ("TlsRequired", &[Own::TlsRequired]),
    ("AuthSucceeded", &[Own::AuthOk]),
    ("AuthMechNotSupported", &[Own::UnknownMechanism]),
    ("AuthClientMustNotStart", &[Own::MustNotStart]),
    ("AuthMechanismMustBeEncrypted", &[Own::MechanismNeedsTls]),
    ("AuthInvalidCredentials", &[Own::AuthFailed]),
    ("AuthRequired", &[Own::AuthRequired]),
    ("AuthClientCanceled", &[Own::AuthCancelled]),
    ("AuthErrorDecode64", &[Own::BadBase64]),
    ("AuthTempError", &[Own::AuthUnavailable]),
    ("ConnectionMaxReached", &[Own::TooBusy]),
    ("TooManyError", &[Own::TooManyErrors]),
    ("Timeout", &[Own::Timeout]),
    ("TooManyRecipients", &[Own::TooManyRecipients]),
];

/// The replies of a slice.
pub fn of(slice: &ReceiverSlice) -> Replies {
    let server = slice.server_name.as_str();
    let mut replies = Replies::default();
    for reply in &slice.replies {
        match reply.name.as_str() {
            "Greetings" => replies.greet(&named(server, &reply.text)),
            "Helo" => replies.answer_helo(&named(server, &reply.text)),
            name => {
                let row = ROWS.iter().find(|(known, _)| *known == name);
                for own in row.map_or(&[][..], |(_, replies)| replies) {
                    replies.say(*own, reply.enhanced(), &reply.text);
                }
            }
        }
    }
    replies
}

/// With the server's name in front, which clients read there.
fn named(server: &str, text: &str) -> String {
    let begins = text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(server));
    if begins { text.to_owned() } else { format!("{server} {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reply_has_two_names_and_no_name_two_rows() {
        let mut all: Vec<Own> = ROWS.iter().flat_map(|(_, replies)| replies.iter().copied()).collect();
        let count = all.len();
        all.sort_by_key(|own| own.name());
        all.dedup();
        assert_eq!(all.len(), count);
        let mut names: Vec<&str> = ROWS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn the_configuration_knows_the_code_of_each_reply() {
        for (name, replies) in ROWS {
            for own in *replies {
                let code = own.wire()[..3].parse().ok();
                assert_eq!(vsmtp_config::reply_code(name), code, "{name}: {}", own.name());
            }
        }
        assert_eq!(["Greetings", "Helo"].map(vsmtp_config::reply_code), [Some(220), Some(250)]);
        assert_eq!(vsmtp_config::reply_code("EhloPain"), None);
    }

    #[test]
    fn a_greeting_begins_with_our_name() {
        assert_eq!(named("mx.test", "MX.test welcomes you"), "MX.test welcomes you");
        assert_eq!(named("mx.test", "Service ready"), "mx.test Service ready");
        assert_eq!(named("mx.test", ""), "mx.test ");
    }
}
