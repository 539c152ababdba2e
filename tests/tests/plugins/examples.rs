//! The examples of `plugins/examples`, as a site uses them.

use std::fs;

use vsmtp_tests::{Client, Mta, native, needs_root, wait_until};

use crate::{check, said, site, write};

const FOLD: &str = "plugins/examples/c/vsmtp_example_fold.c";
const RULES: &str = r#"
import "services/fold" as fold;
import "services/seen" as seen;
#{
    rcpt: [
        rule "known" || {
            if fold::letters("Jo.hn") == "john" { state::next() } else { state::deny() }
        },
    ],
    preq: [
        action "mark" || {
            msg::append_header("X-Words", `${fold::words.find(msg::get_header("Subject"))}`);
            msg::append_header("X-Seen", `${seen::senders.see(ctx::mail_from())}`);
            msg::append_header("X-Type", type_of(seen::senders));
        },
    ],
}
"#;

/// An MTA with both, not started.
fn with_examples() -> Mta {
    let mta = site(RULES, "");
    let fold = native::place(&mta).join("fold-built.so");
    native::compile(&native::source(FOLD), &fold, &["-std=c99", "-pedantic"]);
    native::install(&mta, "vsmtp_example_fold", &fold);
    let seen = native::build(&["-p", "vsmtp-example-plugin"], "libvsmtp_example_seen.so");
    native::install(&mta, "vsmtp_example_seen", &seen);
    write(
        &mta,
        "services/fold.vsl",
        "import \"plugins/vsmtp_example_fold\" as fold;\n\
         const words = fold::words(#{ list: [\"free money\", \"act now\"] });\n\
         fn letters(text) { fold::letters(text) }\n",
    );
    write(
        &mta,
        "services/seen.vsl",
        "import \"plugins/vsmtp_example_seen.so\" as seen;\nconst senders = seen::counter(#{ most: 100 });\n",
    );
    mta
}

fn letter(subject: &str) -> String {
    format!("Subject: {subject}\r\n\r\ntext")
}

#[test]
fn what_plugins_return_changes_a_message() {
    let mut mta = with_examples();
    mta.launch();
    let mut client = Client::hello(mta.port());
    let subjects = ["Good day", "F.R.E.E  m-o-n-e-y!", "A C T now"];
    for subject in subjects {
        assert_eq!(client.mail("a@src.test", &["b@local.test"], &letter(subject)).code(), 250);
    }
    let mail = mta.wait_for_mail("local.test", "b", 3);
    let of = |subject: &str| mail.iter().find(|mail| mail.contains(subject)).expect("the message");
    for (at, (subject, found)) in subjects.iter().zip(["", "free money", "act now"]).enumerate() {
        let mail = of(subject);
        assert!(mail.contains(&format!("X-Words: {found}\n")), "{mail}");
        // The object was made once, and has seen all of them.
        assert!(mail.contains(&format!("X-Seen: {}\n", at + 1)), "{mail}");
        assert!(mail.contains("X-Type: object of a plugin"), "{mail}");
    }
}

#[test]
fn threads_share_what_services_have_made() {
    let mut mta = with_examples();
    mta.launch();
    let port = mta.port();
    let senders: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::hello(port);
                (0..5).all(|_| client.mail("a@src.test", &["b@local.test"], &letter("x")).code() == 250)
            })
        })
        .collect();
    assert!(senders.into_iter().all(|sender| sender.join().expect("a sender")));
    let mail = mta.wait_for_mail("local.test", "b", 40);
    let mut seen: Vec<u32> =
        mail.iter().filter_map(|mail| mail.split("X-Seen: ").nth(1)?.lines().next()?.parse().ok()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).collect::<Vec<_>>(), "each was counted once");
}

#[test]
fn rules_with_plugins_write_what_others_write() {
    let mut mta = with_examples();
    write(
        &mta,
        "filter.vsl",
        r#"
        import "services/seen" as seen;
        service table db:csv = #{ connector: "table.csv", access: "O_RDWR", refresh: "always", delimiter: "," };
        const users = csv::build(#{ connector: "users.csv", access: "O_RDONLY", refresh: "always" });
        #{ preq: [ action "write" || {
            fs::write("archive");
            table.set([ctx::mail_from(), `${seen::senders.see(users.get(ctx::mail_from())[1])}`]);
        } ] }"#,
    );
    write(&mta, "users.csv", "a@src.test,somebody\n");
    mta.launch();
    let mut client = Client::hello(mta.port());
    assert_eq!(client.mail("a@src.test", &["b@local.test"], &letter("x")).code(), 250, "{}", mta.log());
    let table = fs::read_to_string(mta.root().join("var/lib/vsmtp/databases/table.csv"));
    assert_eq!(table.expect("read a table"), "a@src.test,1\n");
    assert_eq!(fs::read_dir(mta.root().join("var/spool/vsmtp/app/archive")).expect("a folder").count(), 1);
}

#[test]
fn a_reload_takes_a_new_file_up_in_new_processes() {
    let mut mta = with_examples();
    mta.launch();
    let found = |mta: &Mta, count: usize| {
        let mut client = Client::hello(mta.port());
        assert_eq!(client.mail("a@src.test", &["b@local.test"], &letter("free money")).code(), 250);
        let mail = mta.wait_for_mail("local.test", "b", count);
        mail.iter().filter(|mail| mail.contains("X-Words: free money")).count()
    };
    assert_eq!(found(&mta, 1), 1);
    // The same plugin, but that it finds nothing.
    let new = native::place(&mta).join("fold-new.so");
    let source = fs::read_to_string(native::source(FOLD)).expect("read the example");
    let (blind, text) = (native::place(&mta).join("fold.c"), "strstr(folded, words->folded[at]) != NULL");
    assert!(source.contains(text));
    fs::write(&blind, source.replace(text, "folded == NULL")).expect("write a source");
    native::compile(&blind, &new, &[]);
    native::install(&mta, "vsmtp_example_fold", &new);
    let filters = |mta: &Mta| -> Vec<(u32, bool)> {
        let of = mta.processes().into_iter().filter(|one| one.name.starts_with("filter-session"));
        of.map(|one| (one.pid, one.is_ready && !one.is_draining)).collect()
    };
    let old = filters(&mta);
    assert!(mta.ctl(&["reload"]).status.success());
    wait_until("the filter is another process", || {
        let now = filters(&mta);
        !now.iter().any(|(pid, _)| old.iter().any(|(old, _)| old == pid))
            && now.iter().all(|(_, ready)| *ready)
    });
    assert_eq!(found(&mta, 2), 1, "the second was not found any more");
}

#[test]
fn rules_with_plugins_are_checked_and_tried_by_anybody_but_root() {
    let mta = with_examples();
    let (works, text) = check(&mta);
    assert!(works, "{text}");
    let message = mta.root().join("message.eml");
    fs::write(&message, letter("free money")).expect("write a message");
    let message = message.display().to_string();
    let tries: [&[&str]; 2] =
        [&["vsl", "check"], &["vsl", "test", "--from", "a@src.test", "--rcpt", "b@local.test", &message]];
    if !vsmtp_tests::is_root() {
        for words in tries {
            let (works, text) = said(&mta.ctl(words));
            assert!(works, "{text}");
        }
        return;
    }
    for words in tries {
        let (works, text) = said(&as_nobody(&mta, words));
        assert!(works && !text.contains("error"), "{text}");
        assert!(words[1] == "check" || text.contains("X-Words: free money"), "{text}");
    }
}

#[test]
fn root_itself_loads_no_plugin() {
    // Where the package's users do not exist vsmtpctl has nobody to become.
    if !needs_root("root_itself_loads_no_plugin")
        || fs::read_to_string("/etc/passwd").is_ok_and(|users| users.contains("vsmtp-filter"))
    {
        return;
    }
    let (works, text) = said(&with_examples().ctl(&["vsl", "check"]));
    assert!(!works && text.contains("plugins are not loaded by root"), "{text}");
    assert!(text.contains("services/fold.vsl:1"), "{text}");
}

/// Runs vsmtpctl as a user who may do nothing.
pub fn as_nobody(mta: &Mta, words: &[&str]) -> std::process::Output {
    let ctl = vsmtp_tests::binary("vsmtpctl").display().to_string();
    let root = mta.root().display().to_string();
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", &ctl, "--root", &root];
    vsmtp_tests::run("setpriv", &[&user[..], words].concat())
}
