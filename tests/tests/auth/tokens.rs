//! Tokens of an identity provider, whose keys are in a file: nobody is asked on the network.

use std::path::Path;

use serde_json::json;
use vsmtp_tests::{Client, needs_programs, python, run, said, wait_until};

use crate::{Stage, prepare};

const CONFIG: &str = "
    config.server.auth.backends = [\"oauth:keys.json\"];
    config.server.auth.oauth.issuer = \"https://id.test/realm\";
    config.server.auth.oauth.audience = [\"mail\"];
    config.server.auth.oauth.scope = \"smtp\";
";

/// An identity provider: openssl makes its key and signs, python puts it into the form of a token.
struct Provider {
    folder: tempfile::TempDir,
    /// How it signs: `ES256` or `RS256`.
    algorithm: &'static str,
}

const PROVIDER: &str = "
import base64, json, subprocess, sys, time
do, key, algorithm = sys.argv[1:4]
rsa = algorithm == 'RS256'
def text(octets): return base64.urlsafe_b64encode(octets).rstrip(b'=').decode()
def openssl(*words, said=None):
    # What it says while it makes a key of RSA is no part of the answer.
    how = {'stdout': subprocess.PIPE, 'stderr': subprocess.DEVNULL, 'check': True}
    return subprocess.run(('openssl',) + words, input=said, **how).stdout
if do == 'make':
    kind = ('RSA', '-pkeyopt', 'rsa_keygen_bits:2048') if rsa else ('EC', '-pkeyopt', 'ec_paramgen_curve:P-256')
    openssl('genpkey', '-algorithm', *kind, '-out', key)
    public = openssl('pkey', '-in', key, '-pubout', '-outform', 'DER')
    # The modulus is followed by the exponent 65537, which with its head takes five octets.
    made = {'kty': 'RSA', 'n': text(public[-261:-5]), 'e': 'AQAB'} if rsa else \
        {'kty': 'EC', 'crv': 'P-256', 'x': text(public[-64:-32]), 'y': text(public[-32:])}
    print(json.dumps({'keys': [{'use': 'sig', **made}]}))
else:
    now = int(time.time())
    claims = {'iss': 'https://id.test/realm', 'aud': ['mail', 'calendar'], 'email': 'tim@src.test',
              'scope': 'openid smtp', 'iat': now, 'exp': now + 3600}
    claims.update({name: now + value if name == 'exp' else value for name, value in json.loads(sys.argv[4]).items()})
    signed = text(json.dumps({'alg': algorithm, 'typ': 'at+jwt'}).encode()) + '.' + text(json.dumps(claims).encode())
    signature, numbers, at = openssl('dgst', '-sha256', '-sign', key, said=signed.encode()), b'', 2
    for _ in range(0 if rsa else 2):
        long = signature[at + 1]
        numbers += signature[at + 2:at + 2 + long].lstrip(b'\\0').rjust(32, b'\\0')
        at += 2 + long
    numbers = numbers or signature
    print(signed + '.' + text(numbers))
";

impl Provider {
    /// With a key of its own, which is told to those who read this file.
    fn new(told: &Path, algorithm: &'static str) -> Provider {
        let folder = tempfile::tempdir().expect("make a folder");
        let provider = Provider { folder, algorithm };
        let keys = said(&python(PROVIDER, &["make", &provider.key(), algorithm]));
        // Whole at once, as whoever fetches keys by a timer should write them.
        let new = told.with_extension("new");
        std::fs::write(&new, keys.lines().last().expect("keys")).expect("write the keys");
        std::fs::rename(new, told).expect("put the keys in their place");
        provider
    }

    fn key(&self) -> String {
        self.folder.path().join("key.pem").display().to_string()
    }

    /// A token with these claims instead of the usual ones; `exp` in seconds from now.
    fn token(&self, claims: &serde_json::Value) -> String {
        let token = said(&python(PROVIDER, &["sign", &self.key(), self.algorithm, &claims.to_string()]));
        token.trim().to_owned()
    }
}

fn start(filter: &str, algorithm: &'static str) -> (Stage, Provider) {
    let (mut stage, settings) = prepare(CONFIG, filter);
    stage.mta.write_configuration(&settings);
    let provider = Provider::new(&stage.mta.root().join("etc/vsmtp/keys.json"), algorithm);
    stage.mta.launch();
    (stage, provider)
}

fn xoauth2(user: &str, token: &str) -> String {
    let script = "import base64,sys; print(base64.b64encode(sys.argv[1].encode()).decode())";
    let message = format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}");
    format!("AUTH XOAUTH2 {}", said(&python(script, &[&message])).trim())
}

#[test]
fn a_token_that_is_for_us_is_a_login_and_others_are_told_apart_in_the_log_only() {
    const TEST: &str = "a_token_that_is_for_us_is_a_login_and_others_are_told_apart_in_the_log_only";
    if !needs_programs(TEST, &["openssl", "python3"]) {
        return;
    }
    let (stage, provider) = start("", "ES256");
    let mut client = Client::hello(stage.submission);
    let offered = client.say("EHLO client.test").0;
    // Nobody here knows passwords.
    assert!(offered.contains("AUTH XOAUTH2 OAUTHBEARER") && !offered.contains("PLAIN"), "{offered}");
    let good = provider.token(&json!({}));
    assert_eq!(client.say(&xoauth2("tim@src.test", &good)).code(), 235);
    assert_eq!(client.mail("tim@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
    wait_until("it is sent", || stage.sink.count() == 1);
    for (claims, user, why) in [
        (json!({ "exp": -3600 }), "tim@src.test", "expired"),
        (json!({ "aud": "calendar" }), "tim@src.test", "audience"),
        (json!({ "iss": "https://other.test/" }), "tim@src.test", "issuer"),
        (json!({ "scope": "openid" }), "tim@src.test", "scope"),
        (json!({}), "joe@src.test", "other-user"),
    ] {
        let mut client = Client::hello(stage.submission);
        // {"schemes":"bearer","scope":"smtp","status":"401"}
        let challenge = "334 eyJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJzbXRwIiwic3RhdHVzIjoiNDAxIn0=";
        assert_eq!(client.say(&xoauth2(user, &provider.token(&claims))).0, challenge, "{why}");
        let line = format!("event=token-refused why={why} ");
        wait_until("the log says why", || stage.mta.log().contains(&line));
        // Whoever is wrong waits a second to hear it; once is enough.
        if why == "other-user" {
            assert_eq!(client.say("").0, "535 5.7.8 Authentication credentials invalid", "{why}");
            assert_eq!(client.say("MAIL FROM:<tim@src.test>").code(), 530);
        }
    }
    let log = stage.mta.logged("event=authenticated user=tim@src.test mechanism=XOAUTH2");
    assert!(!log.contains(&good) && !log.contains(good.split('.').nth(2).expect("a signature")), "{log}");
    // The provider has changed its key: the new one counts within a second or so, the old one not any more.
    let told = stage.mta.root().join("etc/vsmtp/keys.json");
    let reads = || stage.mta.log().matches("event=token-keys-read ").count();
    let read_again = |before: usize| wait_until("the file is read again", || reads() > before);
    let before = reads();
    let other = Provider::new(&told, "ES256");
    let new = other.token(&json!({}));
    let code = |token: &str| Client::hello(stage.submission).say(&xoauth2("tim@src.test", token)).code();
    read_again(before);
    assert_eq!((code(&new), code(&good)), (235, 334));
    // A file without keys takes none away.
    let before = reads();
    std::fs::write(told.with_extension("new"), "{\"keys\":[]}").expect("write no keys");
    std::fs::rename(told.with_extension("new"), &told).expect("put them there");
    read_again(before);
    assert_eq!(code(&new), 235);
}

#[test]
fn curl_sends_by_token_and_rules_have_the_last_word() {
    const TEST: &str = "curl_sends_by_token_and_rules_have_the_last_word";
    if !needs_programs(TEST, &["openssl", "python3", "curl"]) {
        return;
    }
    let (stage, provider) = start(
        r#"#{
            authenticate: [
                rule "own domain" || if auth::credentials().mechanism in ["XOAUTH2", "OAUTHBEARER"]
                    && auth::credentials().authid.to_string().ends_with("@src.test") {
                    state::accept()
                } else {
                    state::deny()
                },
            ],
        }"#,
        "RS256",
    );
    let url = format!("smtp://127.0.0.1:{}/client.test", stage.submission);
    let mail = stage.mta.root().join("mail.txt").display().to_string();
    std::fs::write(&mail, "Subject: by token\r\n\r\nx\r\n").expect("write the message");
    let curl = |mechanism: &str, user: &str| {
        let (login, token) = (format!("AUTH={mechanism}"), provider.token(&json!({ "email": user })));
        let who = ["--user", user, "--oauth2-bearer", &token, "--login-options", &login, "-v", "--silent"];
        let what = ["--url", &url, "--mail-from", user, "--mail-rcpt", "b@dst.test", "-T", &mail];
        run("curl", &[&who[..], &what].concat())
    };
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        let text = said(&curl(mechanism, "tim@src.test"));
        assert!(text.contains("< 235 2.7.0") && text.contains("queued as"), "{mechanism}: {text}");
        let refused = curl(mechanism, "tim@other.test");
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains("< 535 5.7.8"), "{mechanism}: {text}");
    }
    wait_until("both are sent", || stage.sink.count() == 2);
}
