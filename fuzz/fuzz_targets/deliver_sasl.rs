//! Our own words of SASL against a server that says anything. The first octet chooses the mechanism, the rest is challenges,
//! each up to a NUL; in them `%n` is our nonce and `%v` the signature that a server would show that knows the password. An
//! exchange ends, costs a bounded work, shows no password by SCRAM, and is proven by the right signature alone.
#![no_main]

use std::num::NonZeroU32;

use aws_lc_rs::{hmac, pbkdf2};
use data_encoding::BASE64;
use libfuzzer_sys::fuzz_target;
use vsmtp_deliver::smtp::accounts::Account;
use vsmtp_deliver::smtp::sasl::{Exchange, Salted, SaslFault};
use vsmtp_fuzz::cut::Fields;

const USER: &str = "j=a,ne";
const PASSWORD: &str = "pencil";
/// Rounds that a server may ask for.
const ROUNDS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;
/// Challenges of one exchange. None takes as many.
const CHALLENGES: usize = 8;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let (name, answers) =
        [("SCRAM-SHA-256", 2), ("PLAIN", 0), ("LOGIN", 2), ("XOAUTH2", 1)][usize::from(choice & 3)];
    let account = Account {
        user: USER.into(),
        password: PASSWORD.into(),
        token: name == "XOAUTH2",
        unverified: choice & 4 != 0,
        salted: Salted::default(),
    };
    let mut exchange = Exchange::choose(&[name.into()], &account).expect("a mechanism that we know");
    assert_eq!(exchange.name(), name);
    let initial = exchange.initial();
    assert_eq!(initial.is_none(), name == "LOGIN");
    let is_scram = name == "SCRAM-SHA-256";
    let mut server = is_scram.then(|| Server::hear(&initial.expect("words of SCRAM")));
    let (mut fields, mut answered) = (Fields(rest), 0);
    for _ in 0..CHALLENGES {
        let said = fields.until_nul();
        let challenge = server.as_ref().map_or_else(|| said.to_vec(), |server| server.fill(said));
        match (exchange.respond(&challenge), &mut server) {
            (Ok(words), server) => {
                answered += 1;
                assert!(answered <= answers, "{name} goes on for ever");
                if let Some(server) = server {
                    server.check(answered, &challenge, &words, exchange.is_proven());
                }
            }
            (Err(fault), Some(server)) => {
                assert!(answered == 2 || !exchange.is_proven(), "proven by a server that cheats: {fault}");
                // Who knows the password is believed.
                assert!(answered != 1 || challenge != server.right_final(), "{fault}");
                return;
            }
            (Err(fault), None) => return assert_eq!((fault, answered), (SaslFault::Endless, answers)),
        }
    }
    panic!("{name} goes on for ever");
});

/// A server of SCRAM that knows the password, written for this target.
struct Server {
    client_first_bare: String,
    nonce: String,
    server_first: String,
    signature: String,
}

impl Server {
    fn hear(initial: &[u8]) -> Server {
        let words = std::str::from_utf8(initial).expect("text").strip_prefix("n,,").expect("no binding");
        let nonce = words.strip_prefix("n=j=3Da=2Cne,r=").expect("the name, quoted, and a nonce");
        assert!(nonce.len() >= 24);
        Server {
            client_first_bare: words.to_owned(),
            nonce: nonce.to_owned(),
            server_first: String::new(),
            signature: "AAAA".to_owned(),
        }
    }

    /// The challenge that an input stands for.
    fn fill(&self, template: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = template;
        while let Some((octet, after)) = rest.split_first() {
            rest = after;
            match (octet, after.first()) {
                (b'%', Some(b'n')) => out.extend_from_slice(self.nonce.as_bytes()),
                (b'%', Some(b'v')) => out.extend_from_slice(self.signature.as_bytes()),
                _ => {
                    out.push(*octet);
                    continue;
                }
            }
            rest = &after[1..];
        }
        out
    }

    fn right_final(&self) -> Vec<u8> {
        format!("v={}", self.signature).into_bytes()
    }

    fn check(&mut self, answered: usize, challenge: &[u8], words: &[u8], is_proven: bool) {
        if answered == 2 {
            assert!(is_proven && words.is_empty());
            assert_eq!(challenge, self.right_final(), "proven without the password");
            return;
        }
        assert!(!is_proven, "proven by a question");
        let text = std::str::from_utf8(words).expect("text");
        assert!(!text.contains(PASSWORD) && !text.contains(char::is_control), "{text}");
        self.server_first = String::from_utf8(challenge.to_vec()).expect("what was understood is text");
        let mut fields = self.server_first.split(',');
        let mut field =
            |name: &str| fields.next().and_then(|field| field.strip_prefix(name)).expect("a field");
        let (nonce, salt, rounds) = (field("r="), field("s="), field("i="));
        assert!(nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len(), "not our nonce");
        let rounds: u32 = rounds.parse().expect("a number");
        assert!(ROUNDS.contains(&rounds), "{rounds} rounds");
        let (without_proof, proof) = text.rsplit_once(",p=").expect("a proof");
        assert_eq!(without_proof, format!("c=biws,r={nonce}"));
        let salt = BASE64.decode(salt.as_bytes()).expect("a salt");
        let mut salted = [0; 32];
        let rounds = NonZeroU32::new(rounds).expect("some rounds");
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, PASSWORD.as_bytes(), &mut salted);
        let message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        self.signature = BASE64.encode(&mac(&mac(&salted, b"Server Key"), message.as_bytes()));
        // The proof undoes to the client's key, which the password alone gives.
        let key = mac(&salted, b"Client Key");
        let stored = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key);
        let mask = mac(stored.as_ref(), message.as_bytes());
        let shown = BASE64.decode(proof.as_bytes()).expect("base64");
        let undone: Vec<u8> = shown.iter().zip(mask).map(|(shown, mask)| shown ^ mask).collect();
        assert_eq!(undone, key);
    }
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}
