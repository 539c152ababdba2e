//! The services that know passwords, as Debian ships them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Stdio};

use vsmtp_tests::{Client, Dovecot, needs_programs, needs_root, program, said, signal, wait_until};

use crate::{PENCIL, SCRAM, gsasl, log_in, plain, stage};

#[test]
fn dovecot_knows_its_users_by_each_mechanism() {
    const TEST: &str = "dovecot_knows_its_users_by_each_mechanism";
    if !(needs_root(TEST) && needs_programs(TEST, &["dovecot", "gsasl"])) {
        return;
    }
    let secret = SCRAM.strip_prefix("SCRAM-SHA-256$").expect("a secret of SCRAM");
    // Dovecot writes it in its own way: iterations, salt, stored and server key with commas between them.
    let secret = secret.replacen(':', ",", 1).replace(['$', ':'], ",");
    let dovecot = Dovecot::with_auth(&[("tim", &format!("{{SCRAM-SHA-256}}{secret}"))]);
    let config = format!("config.server.auth.backends = [\"dovecot:{}\"];", dovecot.auth_socket().display());
    let stage = stage("", &config, "");
    wait_until("the offer is there", || {
        Client::hello(stage.submission).say("EHLO x").0.contains("SCRAM-SHA-256")
    });
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256"] {
        let gsasl = |password: &str| gsasl(stage.submission, mechanism, password);
        let text = said(&gsasl("pencil"));
        assert!(text.contains("235 2.7.0"), "{mechanism}: {text}");
        let failed = gsasl("wrong");
        let text = String::from_utf8_lossy(&[failed.stdout, failed.stderr].concat()).into_owned();
        assert!(text.contains("535 5.7.8") && !text.contains("235 2.7.0"), "{mechanism}: {text}");
    }
    let (mut client, reply) = log_in(stage.submission, "tim", "pencil");
    assert_eq!(reply.code(), 235);
    assert_eq!(client.mail("tim@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
    drop(dovecot);
    // A service that is away is no reason to say that a password is wrong.
    let reply = log_in(stage.submission, "tim", "pencil").1;
    assert_eq!(reply.code(), 454, "{reply:?}");
}

/// saslauthd with a shadow file of its own, and a configuration of PAM: it sees them in the place of the system's.
struct Saslauthd {
    folder: tempfile::TempDir,
    child: Child,
}

impl Saslauthd {
    /// It asks `shadow` itself, or `pam`.
    fn start(whom: &str, shadow: &str) -> Saslauthd {
        let folder = tempfile::Builder::new().prefix("vsmtp-sasl.").tempdir().expect("make a folder");
        let root = folder.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("open the folder up");
        fs::write(root.join("shadow"), shadow).expect("write shadow");
        fs::create_dir(root.join("run")).expect("make a folder");
        let names: String = shadow
            .lines()
            .filter_map(|line| line.split(':').next())
            .enumerate()
            .map(|(n, name)| format!("{name}:x:{0}:{0}::/:/bin/false\n", 64_800 + n))
            .collect();
        let passwd = fs::read_to_string("/etc/passwd").expect("read passwd") + &names;
        fs::write(root.join("passwd"), passwd).expect("write passwd");
        fs::create_dir(root.join("pam.d")).expect("make a folder");
        let pam = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n";
        fs::write(root.join("pam.d/smtp"), pam).expect("write the service of PAM");
        let script = "mount --bind $0/shadow /etc/shadow && mount --bind $0/passwd /etc/passwd && \
                      mount --bind $0/pam.d /etc/pam.d && exec saslauthd -a $1 -d -n 2 -m $0/run";
        let child = program("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(root)
            .arg(whom)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start saslauthd");
        let saslauthd = Saslauthd { folder, child };
        wait_until("saslauthd listens", || {
            fs::metadata(saslauthd.socket()).is_ok_and(|it| it.file_type().is_socket())
        });
        fs::set_permissions(saslauthd.folder.path().join("run"), fs::Permissions::from_mode(0o755))
            .expect("let others in");
        saslauthd
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("run/mux")
    }
}

impl Drop for Saslauthd {
    fn drop(&mut self) {
        signal(&[self.child.id()], "TERM");
        let _ = self.child.wait();
    }
}

#[test]
fn saslauthd_knows_the_users_of_the_system() {
    const TEST: &str = "saslauthd_knows_the_users_of_the_system";
    if !(needs_root(TEST) && needs_programs(TEST, &["saslauthd", "unshare"])) {
        return;
    }
    let saslauthd = Saslauthd::start("shadow", &format!("tim:{PENCIL}:19000:0:99999:7:::\n"));
    let backend = format!("saslauthd:{}", saslauthd.socket().display());
    let config = format!("config.server.auth.backends = [\"{backend}\"];");
    let as_back_end = stage("", &config, "");
    check(as_back_end.submission);
    // The same by a rule, which asks for the password that came just now.
    let filter = "#{ authenticate: [ rule \"system\" || auth::unix_users() ] }";
    let by_rule = stage("", &config, filter);
    check(by_rule.submission);
    drop(saslauthd);
    assert_eq!(log_in(as_back_end.submission, "tim", "pencil").1.code(), 454);
}

#[test]
fn pam_knows_the_users_of_the_system_and_whose_account_is_over() {
    const TEST: &str = "pam_knows_the_users_of_the_system_and_whose_account_is_over";
    if !(needs_root(TEST) && needs_programs(TEST, &["saslauthd", "unshare"])) {
        return;
    }
    let shadow = format!(
        "tim:{PENCIL}:19000:0:99999:7:::\nold:{PENCIL}:19000:0:99999:7::19001:\nnew:!:19000:0:99999:7:::\n"
    );
    let saslauthd = Saslauthd::start("pam", &shadow);
    let backend = format!("saslauthd:{}", saslauthd.socket().display());
    let stage = stage("", &format!("config.server.auth.backends = [\"{backend}\"];"), "");
    check(stage.submission);
    // The password is right, and its owner must not come in any more.
    assert_eq!(log_in(stage.submission, "old", "pencil").1.code(), 535);
    assert_eq!(log_in(stage.submission, "new", "!").1.code(), 535);
    drop(saslauthd);
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 454);
}

fn check(port: u16) {
    let (mut client, reply) = log_in(port, "tim", "wrong");
    assert_eq!(reply.code(), 535);
    assert_eq!(client.say(&plain("joe", "pencil")).code(), 535);
    assert_eq!(client.say(&plain("tim", "pencil")).code(), 235);
    assert_eq!(client.mail("tim@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
}

#[test]
fn the_shadow_file_is_read_for_us() {
    let (mut stage, settings) = crate::prepare("config.server.auth.backends = [\"shadow\"];", "");
    stage.mta.write_configuration(&settings);
    write_shadow(&stage.mta.root().join("etc/shadow"), PENCIL);
    stage.mta.launch();
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 235);
    assert_eq!(log_in(stage.submission, "tim", "x").1.code(), 535);
    assert_eq!(log_in(stage.submission, "old", "pencil").1.code(), 535);
    assert!(!stage.mta.log().contains("event=readable-by-others"), "{}", stage.mta.log());
}

fn write_shadow(path: &Path, hash: &str) {
    fs::write(
        path,
        format!(
            "root:*:19000:0:99999:7:::\ntim:{hash}:19000:0:99999:7:::\nold:{hash}:19000:0:99999:7::19001:\n"
        ),
    )
    .expect("write shadow");
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("close the file");
}
