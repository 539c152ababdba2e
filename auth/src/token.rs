//! Tokens that an identity provider has signed (JWT, RFC 7519, in the compact form of RFC 7515): whose is this one, and is it
//! for us? Pure: the keys, what is asked of a token and the time come in. Nothing of a token is believed before its
//! signature, and nothing in it chooses how that is verified: an algorithm counts only with a key of its kind, which is in
//! the operator's file. Symmetric ones and `none` do not exist here (RFC 8725 2.1, 2.2).
//!
//! Every doubt is a no, with its reason for the operator's log; the client hears none.

mod keys;

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};
use vsmtp_config::OauthTerms;

use crate::secret::user;
pub use keys::{Algorithm, KeySet, Unfit, warm_up};

/// Longest token, in octets.
pub const MAX_TOKEN: usize = 8192;
/// How far the provider's clock may be from ours, in seconds.
pub const CLOCK_SKEW_S: u64 = 60;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is no signed token, or none of the kinds that are known.
    Malformed,
    /// Signed in a way that counts for nothing here.
    Algorithm,
    /// By a key that is not in the file.
    UnknownKey,
    /// Not by the key that it names.
    Signature,
    /// By somebody else.
    Issuer,
    /// For somebody else.
    Audience,
    /// It was good before.
    Expired,
    /// It is not good yet.
    NotYet,
    /// It does not allow this.
    Scope,
    /// It names no user.
    User,
    /// It names another user than the client.
    OtherUser,
}

/// Whose token this is; `named` is the user that the client has named, if it has.
///
/// # Errors
/// Why it counts for nothing.
pub fn judge(
    token: &str,
    named: Option<&str>,
    keys: &KeySet,
    terms: &OauthTerms,
    now_s: u64,
) -> Result<String, Refusal> {
    let claims = verified(token, keys)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(&terms.issuer) {
        return Err(Refusal::Issuer);
    }
    if !names(claims.get("aud")).iter().any(|one| terms.audience.iter().any(|ours| ours == one)) {
        return Err(Refusal::Audience);
    }
    check_times(&claims, now_s)?;
    if let Some(wanted) = &terms.scope {
        let scopes = [names(claims.get("scope")), names(claims.get("scp"))].concat();
        if !scopes.iter().flat_map(|text| text.split(' ')).any(|scope| scope == wanted) {
            return Err(Refusal::Scope);
        }
    }
    let found = text(&terms.user_claim).and_then(|name| user(name.as_bytes())).ok_or(Refusal::User)?;
    // An address that the provider has not looked at is whatever its user has typed.
    if terms.user_claim == "email" && claims.get("email_verified").is_some_and(|flag| !is_true(flag)) {
        return Err(Refusal::User);
    }
    match named {
        Some(named) if !named.eq_ignore_ascii_case(&found) => Err(Refusal::OtherUser),
        _ => Ok(found),
    }
}

/// The claims of a token with a signature that counts.
fn verified(token: &str, keys: &KeySet) -> Result<Map<String, Value>, Refusal> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let signed = token.get(..header.len() + 1 + claims.len()).ok_or(Refusal::Malformed)?;
    let header = object(header)?;
    let text =
        |name: &str| header.get(name).map(|value| value.as_str().ok_or(Refusal::Malformed)).transpose();
    // What it calls critical must be understood (RFC 7515 4.1.11), and nothing is.
    let kind = text("typ")?.unwrap_or("JWT").to_ascii_lowercase();
    if header.contains_key("crit") || !matches!(&*kind, "jwt" | "at+jwt" | "application/at+jwt") {
        return Err(Refusal::Malformed);
    }
    let algorithm = Algorithm::parse(text("alg")?.ok_or(Refusal::Malformed)?).ok_or(Refusal::Algorithm)?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| Refusal::Malformed)?;
    let mut candidates = keys.candidates(text("kid")?, algorithm).peekable();
    if candidates.peek().is_none() {
        return Err(Refusal::UnknownKey);
    }
    if !candidates.any(|key| key.verifies(algorithm, signed.as_bytes(), &signature)) {
        return Err(Refusal::Signature);
    }
    object(claims)
}

fn object(part: &str) -> Result<Map<String, Value>, Refusal> {
    let octets = BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Refusal::Malformed)?;
    match serde_json::from_slice(&octets) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(Refusal::Malformed),
    }
}

/// One that is good for ever is none: `exp` must be there.
fn check_times(claims: &Map<String, Value>, now_s: u64) -> Result<(), Refusal> {
    let time =
        |name: &str| claims.get(name).map(|value| seconds(value).ok_or(Refusal::Malformed)).transpose();
    let ends_s = time("exp")?.ok_or(Refusal::Expired)?;
    if now_s >= ends_s.saturating_add(CLOCK_SKEW_S) {
        return Err(Refusal::Expired);
    }
    for begins_s in [time("nbf")?, time("iat")?].into_iter().flatten() {
        if begins_s > now_s.saturating_add(CLOCK_SKEW_S) {
            return Err(Refusal::NotYet);
        }
    }
    Ok(())
}

/// A NumericDate (RFC 7519 2): seconds since 1970, perhaps with a fraction, which counts for nothing.
fn seconds(value: &Value) -> Option<u64> {
    const LATEST: f64 = 1e15;
    let fraction = || value.as_f64().filter(|seconds| (0.0..LATEST).contains(seconds));
    value.as_u64().or_else(|| fraction().map(|seconds| seconds as u64))
}

/// One text, or a list of texts.
fn names(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// Some providers write the flag as a text.
fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

impl Refusal {
    /// True if whoever has brought the token may well be who he says: provider and client are early or late with it.
    pub fn is_honest(self) -> bool {
        matches!(self, Refusal::UnknownKey | Refusal::Expired | Refusal::NotYet)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Malformed => "malformed",
            Refusal::Algorithm => "algorithm",
            Refusal::UnknownKey => "unknown-key",
            Refusal::Signature => "signature",
            Refusal::Issuer => "issuer",
            Refusal::Audience => "audience",
            Refusal::Expired => "expired",
            Refusal::NotYet => "not-yet",
            Refusal::Scope => "scope",
            Refusal::User => "user",
            Refusal::OtherUser => "other-user",
        })
    }
}

#[cfg(test)]
mod tests;
