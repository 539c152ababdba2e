//! Tokens that openssl has signed, forged ones, and ones that are good for somebody else.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

/// When the tokens of the file were issued.
const ISSUED_S: u64 = 1_700_000_000;
const ENDS_S: u64 = ISSUED_S + 3600;

/// Keys and tokens that openssl has made: one for each algorithm, and forged ones.
fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn keys(vectors: &Value) -> KeySet {
    KeySet::parse(&json!({ "keys": vectors["keys"] }).to_string()).unwrap()
}

fn terms() -> OauthTerms {
    OauthTerms {
        issuer: "https://id.test/realm".to_owned(),
        audience: vec!["mail".to_owned()],
        user_claim: "email".to_owned(),
        scope: Some("smtp".to_owned()),
    }
}

#[test]
fn what_openssl_has_signed_by_each_algorithm_is_believed() {
    let vectors = vectors();
    let keys = keys(&vectors);
    let good = vectors["good"].as_object().unwrap();
    assert_eq!(good.len(), 7);
    for (algorithm, token) in good {
        let token = token.as_str().unwrap();
        let found = judge(token, Some("tim@own.test"), &keys, &terms(), ISSUED_S);
        assert_eq!(found.as_deref(), Ok("tim@own.test"), "{algorithm}");
        // Each octet counts.
        for at in (0..token.len()).filter(|at| token.as_bytes()[*at] != b'.') {
            let mut other = token.as_bytes().to_vec();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(judge(&other, None, &keys, &terms(), ISSUED_S).is_err(), "{algorithm} at {at}");
        }
    }
    let nameless = vectors["without_kid"].as_str().unwrap();
    assert!(judge(nameless, None, &keys, &terms(), ISSUED_S).is_ok());
    assert_eq!(judge(nameless, None, &KeySet::default(), &terms(), ISSUED_S), Err(Refusal::UnknownKey));
}

#[test]
fn what_a_token_says_of_itself_chooses_no_key_and_no_algorithm() {
    let vectors = vectors();
    for (what, token) in vectors["forged"].as_object().unwrap() {
        let found = judge(token.as_str().unwrap(), None, &keys(&vectors), &terms(), ISSUED_S);
        let why = match what.as_str() {
            "critical" | "another type" => Refusal::Malformed,
            "none" => Refusal::Algorithm,
            what if what.starts_with("hmac") => Refusal::Algorithm,
            "the key of another kind" => Refusal::UnknownKey,
            _ => Refusal::Signature,
        };
        assert_eq!(found, Err(why), "{what}");
    }
    for torn in ["", ".", "..", "...", "e30.e30", "e30.e30.", "e30.e30.e30.e30", "!.e30.e30", "W10.e30.e30"] {
        assert_eq!(judge(torn, None, &keys(&vectors), &terms(), ISSUED_S), Err(Refusal::Malformed), "{torn}");
    }
}

/// A provider with one key.
struct Provider(Ed25519KeyPair);

impl Provider {
    fn new() -> Self {
        Provider(Ed25519KeyPair::generate().unwrap())
    }

    fn keys(&self) -> KeySet {
        let x = BASE64URL_NOPAD.encode(self.0.public_key().as_ref());
        KeySet::parse(&json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] }).to_string()).unwrap()
    }

    /// A token with these claims instead of the usual ones; `null` takes one away.
    fn token(&self, changes: Value) -> String {
        let mut claims = json!({
            "iss": "https://id.test/realm", "aud": "mail", "email": "tim@own.test", "scope": "openid smtp",
            "iat": ISSUED_S, "exp": ENDS_S,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(json!({ "alg": "EdDSA" })), part(claims));
        let signature = BASE64URL_NOPAD.encode(self.0.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

#[test]
fn a_token_counts_where_it_is_for_us_from_the_issuer_in_its_time() {
    let provider = Provider::new();
    let keys = provider.keys();
    let found = |changes: Value| judge(&provider.token(changes), None, &keys, &terms(), ISSUED_S);
    for good in [
        json!({}),
        json!({ "aud": ["other", "mail"] }),
        json!({ "exp": ENDS_S as f64 + 0.5 }),
        json!({ "nbf": ISSUED_S + CLOCK_SKEW_S }),
        json!({ "exp": ISSUED_S - CLOCK_SKEW_S + 1 }),
        json!({ "scope": null, "scp": ["openid", "smtp"] }),
        json!({ "email_verified": true }),
        json!({ "email_verified": "true" }),
        json!({ "iat": null }),
    ] {
        assert_eq!(found(good.clone()).as_deref(), Ok("tim@own.test"), "{good}");
    }
    for (bad, why) in [
        (json!({ "iss": null }), Refusal::Issuer),
        (json!({ "iss": "https://id.test/realm/" }), Refusal::Issuer),
        (json!({ "iss": ["https://id.test/realm"] }), Refusal::Issuer),
        (json!({ "aud": null }), Refusal::Audience),
        (json!({ "aud": ["other"] }), Refusal::Audience),
        (json!({ "aud": "mail other" }), Refusal::Audience),
        (json!({ "exp": null }), Refusal::Expired),
        (json!({ "exp": ISSUED_S - CLOCK_SKEW_S }), Refusal::Expired),
        (json!({ "exp": "1800000000" }), Refusal::Malformed),
        (json!({ "exp": -1 }), Refusal::Malformed),
        (json!({ "exp": 1e300 }), Refusal::Malformed),
        (json!({ "nbf": ISSUED_S + CLOCK_SKEW_S + 1 }), Refusal::NotYet),
        (json!({ "iat": ISSUED_S + CLOCK_SKEW_S + 1 }), Refusal::NotYet),
        (json!({ "scope": "openid" }), Refusal::Scope),
        (json!({ "scope": "smtps" }), Refusal::Scope),
        (json!({ "scope": null }), Refusal::Scope),
        (json!({ "email": null }), Refusal::User),
        (json!({ "email": "" }), Refusal::User),
        (json!({ "email": "a\nb" }), Refusal::User),
        (json!({ "email": ["tim@own.test"] }), Refusal::User),
        (json!({ "email_verified": false }), Refusal::User),
        (json!({ "email_verified": "false" }), Refusal::User),
    ] {
        assert_eq!(found(bad.clone()), Err(why), "{bad}");
    }
    let honest = [Refusal::UnknownKey, Refusal::Expired, Refusal::NotYet];
    assert!(honest.iter().all(|why| why.is_honest()) && !Refusal::Signature.is_honest());
    let token = provider.token(json!({}));
    let named = |name| judge(&token, Some(name), &keys, &terms(), ISSUED_S);
    assert_eq!(named("joe@own.test"), Err(Refusal::OtherUser));
    assert_eq!(named("Tim@Own.test").as_deref(), Ok("tim@own.test"));
    let by_name = OauthTerms { user_claim: "sub".to_owned(), scope: None, ..terms() };
    let token = provider.token(json!({ "sub": "tim", "scope": null, "email_verified": false }));
    assert_eq!(judge(&token, Some("tim"), &keys, &by_name, ISSUED_S).as_deref(), Ok("tim"));
    // Somebody else's key of the same kind.
    assert_eq!(judge(&token, None, &Provider::new().keys(), &by_name, ISSUED_S), Err(Refusal::Signature));
}

#[test]
fn only_public_keys_that_can_be_used_are_kept() {
    let x = BASE64URL_NOPAD.encode(&[1; 32]);
    let rsa = |first: u8, e: &[u8]| {
        let n = [&[first][..], &[0xff; 255]].concat();
        json!({ "kty": "RSA", "n": BASE64URL_NOPAD.encode(&n), "e": BASE64URL_NOPAD.encode(e) })
    };
    let key = |changes: Value| {
        let mut key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x });
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    };
    for (changes, why) in [
        (json!({ "kty": "oct", "k": "c2VjcmV0" }), Unfit::Unknown),
        (json!({ "d": x }), Unfit::Private),
        (json!({ "use": "enc" }), Unfit::Use),
        (json!({ "key_ops": ["sign"] }), Unfit::Use),
        (json!({ "alg": "RS256" }), Unfit::Unknown),
        (json!({ "alg": "HS256" }), Unfit::Unknown),
        (json!({ "crv": "X25519" }), Unfit::Unknown),
        (json!({ "x": "AQ" }), Unfit::Unknown),
        (json!({ "x": "=" }), Unfit::Unknown),
        (json!({ "kty": "EC", "crv": "P-256", "y": "AQ" }), Unfit::Unknown),
        // Not on the curve.
        (json!({ "kty": "EC", "crv": "P-256", "y": x }), Unfit::Invalid),
        (rsa(0xff, &[0]), Unfit::Invalid),
        (rsa(0xff, &[]), Unfit::Invalid),
        (rsa(0xff, &[0, 1, 0, 1]), Unfit::Invalid),
        (rsa(0xff, &[1]), Unfit::Invalid),
        (rsa(0xff, &[1, 0, 0]), Unfit::Invalid),
        (rsa(0xff, &[1, 0, 0, 0, 1]), Unfit::Invalid),
        (rsa(0x7f, &[1, 0, 1]), Unfit::Invalid),
        (rsa(0, &[1, 0, 1]), Unfit::Invalid),
        // Too short to be worth anything.
        (json!({ "kty": "RSA", "n": BASE64URL_NOPAD.encode(&[0xff; 128]), "e": "AQAB" }), Unfit::Unknown),
    ] {
        let set =
            KeySet::parse(&json!({ "keys": [key(changes.clone()), key(json!({}))] }).to_string()).unwrap();
        assert_eq!((set.len(), set.unfit()), (1, &[(Some("a".to_owned()), why)][..]), "{changes}");
    }
    let good = json!({ "keys": [rsa(0xff, &[1, 0, 1]), rsa(0x80, &[3])] });
    assert_eq!(KeySet::parse(&good.to_string()).unwrap().len(), 2);
    let many = vec![key(json!({ "use": "sig", "key_ops": ["verify"], "alg": "EdDSA" })); 1000];
    let set = KeySet::parse(&json!({ "keys": many }).to_string()).unwrap();
    assert!(set.len() <= 32 && set.unfit().len() <= 32 && !set.is_empty());
    for bad in ["", "{}", "[]", "{\"keys\":{}}", "{\"keys\":[", &"[".repeat(10_000)] {
        assert!(KeySet::parse(bad).is_none(), "{bad}");
    }
    assert_eq!(KeySet::parse("{\"keys\":[1,{}]}").unwrap().unfit().len(), 2);
}
