//! The client's words of SASL: SCRAM-SHA-256 (RFC 7677), PLAIN (RFC 4616), LOGIN and XOAUTH2. Pure but for a random nonce.
//! The server is a stranger: everything it says is checked, and the work that it can ask for is bounded.

use std::cell::RefCell;
use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use data_encoding::{BASE64, HEXLOWER};
use zeroize::Zeroizing;

use crate::smtp::accounts::Account;

/// Rounds of SCRAM that a server may ask for: fewer are no protection (RFC 7677 4), more are an attack on us. They are done on
/// the loop, where all connections of this process wait for them: a million takes about half a second, once for each salt. Servers that follow the
/// advice of today ask for 600,000.
const ROUNDS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;
/// Octets of our nonce.
const NONCE: usize = 18;
/// Octets of a SHA-256.
const HASH: usize = 32;
/// No channel binding, and we do not pretend that the server has none.
const GS2_HEADER: &str = "n,,";

/// One exchange.
pub enum Exchange {
    /// Everything at once.
    Plain(Account),
    /// User, then password, each when it is asked for.
    Login(Vec<Box<str>>),
    /// The token at once, and whether a refusal was answered.
    XOAuth2(Account, bool),
    /// See [`Scram`].
    Scram(Box<Scram>),
}

/// What comes of the password of an account with the last salt and rounds that a server has named (RFC 5802 allows to keep it): the
/// next connection is spared the work. Shared by all copies of the account.
#[derive(Clone, Default)]
pub struct Salted(Rc<RefCell<Option<LastSalted>>>);

struct LastSalted {
    salt: Vec<u8>,
    rounds: NonZeroU32,
    key: Key,
}

/// Wiped when it is dropped.
type Key = Zeroizing<[u8; HASH]>;

impl Salted {
    /// From memory, or from `derive` if the salt or the rounds are others than last time.
    fn get(&self, salt: &[u8], rounds: NonZeroU32, derive: impl FnOnce() -> Key) -> Key {
        let mut last = self.0.borrow_mut();
        match &*last {
            Some(last) if last.salt == salt && last.rounds == rounds => last.key.clone(),
            _ => {
                let key = derive();
                *last = Some(LastSalted { salt: salt.to_vec(), rounds, key: key.clone() });
                key
            }
        }
    }
}

/// SCRAM-SHA-256 and where it stands.
pub struct Scram {
    account: Account,
    nonce: String,
    stage: Stage,
}

enum Stage {
    First,
    /// The signature that the server must show.
    Final([u8; HASH]),
    Proven,
}

/// What the server did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslFault {
    /// Its words make no sense in the mechanism.
    Nonsense,
    /// It asks for too little or too much work.
    Rounds,
    /// It does not know our password.
    Signature,
    /// It asks once more than there is to say.
    Endless,
}

impl fmt::Display for SaslFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SaslFault::Nonsense => "server's SASL challenge makes no sense",
            SaslFault::Rounds => "server asks for too few or too many rounds of SCRAM",
            SaslFault::Signature => "server did not prove that it knows our password",
            SaslFault::Endless => "server's SASL challenges do not end",
        })
    }
}

impl Exchange {
    /// The best mechanism among those that are offered, by their names in upper case.
    pub fn choose(offered: &[Box<str>], account: &Account) -> Option<Self> {
        let has = |name: &str| offered.iter().any(|offer| &**offer == name);
        let account = account.clone();
        if account.token {
            return has("XOAUTH2").then_some(Exchange::XOAuth2(account, false));
        }
        if has("SCRAM-SHA-256") {
            let mut nonce = [0; NONCE];
            vsmtp_sys::random::fill(&mut nonce).ok()?;
            return Some(Exchange::Scram(Box::new(Scram::new(account, HEXLOWER.encode(&nonce)))));
        }
        if has("PLAIN") {
            return Some(Exchange::Plain(account));
        }
        // The last comes first.
        has("LOGIN").then(|| Exchange::Login(vec![account.password, account.user]))
    }

    /// The name of the mechanism.
    pub fn name(&self) -> &'static str {
        match self {
            Exchange::Plain(_) => "PLAIN",
            Exchange::Login(_) => "LOGIN",
            Exchange::XOAuth2(..) => "XOAUTH2",
            Exchange::Scram(_) => "SCRAM-SHA-256",
        }
    }

    /// The first words, if the mechanism lets the client begin.
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        match self {
            Exchange::Plain(account) => {
                Some(format!("\0{}\0{}", account.user, account.password).into_bytes())
            }
            Exchange::Login(_) => None,
            Exchange::XOAuth2(Account { user, password, .. }, _) => {
                Some(format!("user={user}\x01auth=Bearer {password}\x01\x01").into_bytes())
            }
            Exchange::Scram(scram) => Some(format!("{GS2_HEADER}{}", scram.first_bare()).into_bytes()),
        }
    }

    /// The answer to a challenge.
    ///
    /// # Errors
    /// The exchange must end.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslFault> {
        match self {
            Exchange::Plain(_) => Err(SaslFault::Endless),
            Exchange::Login(words) => {
                words.pop().map(|word| word.as_bytes().to_vec()).ok_or(SaslFault::Endless)
            }
            // The reason of a refusal, which an empty answer makes final.
            Exchange::XOAuth2(_, answered) if !*answered => {
                *answered = true;
                Ok(Vec::new())
            }
            Exchange::XOAuth2(..) => Err(SaslFault::Endless),
            Exchange::Scram(scram) => scram.respond(challenge),
        }
    }

    /// True if the server has proved what the mechanism lets it prove.
    pub fn is_proven(&self) -> bool {
        match self {
            Exchange::Scram(scram) => matches!(scram.stage, Stage::Proven),
            Exchange::Login(words) => words.is_empty(),
            Exchange::Plain(_) | Exchange::XOAuth2(..) => true,
        }
    }
}

impl Scram {
    fn new(account: Account, nonce: String) -> Self {
        Scram { account, nonce, stage: Stage::First }
    }

    /// Commas and equal signs have another meaning (RFC 5802 5.1).
    fn first_bare(&self) -> String {
        let user = self.account.user.replace('=', "=3D").replace(',', "=2C");
        format!("n={user},r={}", self.nonce)
    }

    fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslFault> {
        let text = std::str::from_utf8(challenge).map_err(|_| SaslFault::Nonsense)?;
        match self.stage {
            Stage::First => self.on_first(text),
            Stage::Final(expected) => {
                let shown = text.strip_prefix("v=").ok_or(SaslFault::Signature)?;
                let shown = BASE64.decode(shown.as_bytes()).map_err(|_| SaslFault::Nonsense)?;
                constant_time::verify_slices_are_equal(&shown, &expected)
                    .map_err(|_| SaslFault::Signature)?;
                self.stage = Stage::Proven;
                Ok(Vec::new())
            }
            Stage::Proven => Err(SaslFault::Endless),
        }
    }

    fn on_first(&mut self, server_first: &str) -> Result<Vec<u8>, SaslFault> {
        let mut fields = server_first.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let (nonce, salt, rounds) = (field("r="), field("s="), field("i="));
        let nonce = nonce.filter(|nonce| nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce));
        // Printable (RFC 5802 7): we say it again.
        let nonce = nonce.filter(|nonce| nonce.bytes().all(|octet| octet.is_ascii_graphic()));
        let nonce = nonce.ok_or(SaslFault::Nonsense)?;
        let salt = salt.and_then(|salt| BASE64.decode(salt.as_bytes()).ok()).filter(|salt| !salt.is_empty());
        let salt = salt.ok_or(SaslFault::Nonsense)?;
        let rounds: u32 = rounds.and_then(|rounds| rounds.parse().ok()).ok_or(SaslFault::Nonsense)?;
        let rounds = NonZeroU32::new(rounds).filter(|rounds| ROUNDS.contains(&rounds.get()));
        let rounds = rounds.ok_or(SaslFault::Rounds)?;

        let password = self.account.password.as_bytes();
        let salted = self.account.salted.get(&salt, rounds, || {
            let mut key = Key::default();
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password, &mut *key);
            key
        });
        let client_key = mac(&*salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let without_proof = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER.as_bytes()));
        let message = format!("{},{server_first},{without_proof}", self.first_bare());
        let signature = mac(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> =
            client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        self.stage = Stage::Final(mac(&mac(&*salted, b"Server Key"), message.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(&proof)).into_bytes())
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; HASH] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; HASH];
    out.copy_from_slice(tag.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(user: &str, password: &str) -> Account {
        let (user, password) = (user.into(), password.into());
        Account { user, password, token: false, unverified: false, salted: Salted::default() }
    }

    /// The example of RFC 7677 3.
    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn example() -> Exchange {
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        Exchange::Scram(Box::new(Scram::new(account("user", "pencil"), nonce)))
    }

    #[test]
    fn scram_as_the_standard_shows_it() {
        let mut exchange = example();
        assert_eq!(exchange.initial().unwrap(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let answer = String::from_utf8(exchange.respond(SERVER_FIRST).unwrap()).unwrap();
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!exchange.is_proven());
        let server_final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!((exchange.respond(server_final), exchange.is_proven()), (Ok(Vec::new()), true));
        assert_eq!(exchange.respond(b""), Err(SaslFault::Endless));
    }

    #[test]
    fn a_scram_server_that_cheats_is_left() {
        let first = std::str::from_utf8(SERVER_FIRST).unwrap();
        for (said, fault) in [
            (first.replace("r=rO", "r=xO"), SaslFault::Nonsense),
            ("r=rOprNGfwEbeRWgbNEkqO,s=QSXCR+Q6sek8bf92,i=4096".to_owned(), SaslFault::Nonsense),
            (first.replace("$k0", "$k0\n"), SaslFault::Nonsense),
            (first.replace("$k0", "\u{e9}"), SaslFault::Nonsense),
            (first.replace("4096", "1"), SaslFault::Rounds),
            (first.replace("4096", "0"), SaslFault::Rounds),
            (first.replace("4096", "4000000000"), SaslFault::Rounds),
            (first.replace("4096", "many"), SaslFault::Nonsense),
            (first.replace("s=W22", "s=?"), SaslFault::Nonsense),
            (format!("m=ext,{first}"), SaslFault::Nonsense),
            (String::new(), SaslFault::Nonsense),
        ] {
            assert_eq!(example().respond(said.as_bytes()), Err(fault), "{said}");
        }
        for end in ["e=other-error", "v=AAAA", "v=?", ""] {
            let mut exchange = example();
            exchange.respond(SERVER_FIRST).unwrap();
            assert!(exchange.respond(end.as_bytes()).is_err() && !exchange.is_proven(), "{end}");
        }
    }

    #[test]
    fn as_many_rounds_as_passwords_are_kept_with_today_are_no_attack() {
        let first = std::str::from_utf8(SERVER_FIRST).unwrap().replace("4096", "600000");
        assert!(example().respond(first.as_bytes()).is_ok());
        assert_eq!(example().respond(first.replace("600000", "1000001").as_bytes()), Err(SaslFault::Rounds));
    }

    #[test]
    fn the_rounds_are_done_once_for_all_connections_with_the_same_salt() {
        let jane = account("jane", "secret");
        let answer = |salt: &str, rounds: u32| {
            let mut exchange = Exchange::choose(&["SCRAM-SHA-256".into()], &jane).unwrap();
            let first = String::from_utf8(exchange.initial().unwrap()).unwrap();
            let nonce = first.split_once("r=").unwrap().1;
            let said = format!("r={nonce}more,s={},i={rounds}", BASE64.encode(salt.as_bytes()));
            assert!(exchange.respond(said.as_bytes()).is_ok());
        };
        let rounds = NonZeroU32::new(4096).unwrap();
        answer("salt", 4096);
        jane.salted.get(b"salt", rounds, || panic!("it is known"));
        // Other salts and other rounds are not, and there is room for one.
        for (salt, other) in [("pepper", 4096), ("pepper", 4097), ("salt", 4096)] {
            answer(salt, other);
            let last = jane.salted.0.borrow();
            let last = last.as_ref().unwrap();
            assert_eq!((last.salt.as_slice(), last.rounds.get()), (salt.as_bytes(), other));
        }
    }

    #[test]
    fn names_with_commas_are_quoted() {
        let scram = Scram::new(account("a=b,c", "x"), "n".to_owned());
        assert_eq!(scram.first_bare(), "n=a=3Db=2Cc,r=n");
    }

    #[test]
    fn the_best_mechanism_is_chosen() {
        let choose = |offered: &[&str], account: &Account| {
            let offered: Vec<Box<str>> = offered.iter().map(|name| (*name).into()).collect();
            Exchange::choose(&offered, account).map(|exchange| exchange.name())
        };
        let jane = account("jane", "x");
        assert_eq!(choose(&["LOGIN", "PLAIN", "SCRAM-SHA-256", "XOAUTH2"], &jane), Some("SCRAM-SHA-256"));
        assert_eq!(choose(&["LOGIN", "PLAIN"], &jane), Some("PLAIN"));
        assert_eq!(choose(&["LOGIN"], &jane), Some("LOGIN"));
        assert_eq!(choose(&["NTLM", "XOAUTH2"], &jane), None);
        let token = Account { token: true, ..jane };
        assert_eq!((choose(&["XOAUTH2"], &token), choose(&["PLAIN"], &token)), (Some("XOAUTH2"), None));
    }

    #[test]
    fn the_simple_ones() {
        let jane = account("jane", "secret");
        let mut plain = Exchange::Plain(jane.clone());
        assert_eq!(plain.initial().unwrap(), b"\0jane\0secret");
        assert!(plain.is_proven() && plain.respond(b"").is_err());
        let mut login = Exchange::choose(&["LOGIN".into()], &jane).unwrap();
        assert_eq!(login.initial(), None);
        assert_eq!(
            (login.respond(b"Username:"), login.respond(b"?")),
            (Ok(b"jane".to_vec()), Ok(b"secret".to_vec()))
        );
        assert_eq!((login.is_proven(), login.respond(b"")), (true, Err(SaslFault::Endless)));
        let mut token = Exchange::XOAuth2(jane, false);
        assert_eq!(token.initial().unwrap(), b"user=jane\x01auth=Bearer secret\x01\x01");
        assert_eq!(token.respond(b"{\"status\":\"401\"}"), Ok(Vec::new()));
        assert_eq!(token.respond(b"{\"status\":\"401\"}"), Err(SaslFault::Endless));
    }
}
