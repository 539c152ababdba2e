//! Tables that rules keep in CSV files: written by one process, read by another, there after a restart.

use std::fs;

use vsmtp_tests::{Client, Mta, Sink, wait_until};

use crate::settings;

#[test]
fn a_greylist_in_a_csv_file_is_kept_by_all_filters_and_over_a_restart() {
    let rules = r##"
        service greylist db:csv = #{ connector: "greylist.csv", access: "O_RDWR", refresh: "always", delimiter: "," };
        const users = csv::build(#{ connector: "users.csv", access: "O_RDONLY" });
        #{
            mail: [ rule "greylist" || {
                if users.get(ctx::mail_from()).is_empty() { return state::next(); }
                if greylist.get(ctx::mail_from()) == [] {
                    greylist.set([ctx::mail_from(), ctx::client_ip()]);
                    state::reject("451 4.7.1 try again")
                } else { state::next() }
            } ],
            postq: [ action "seen" || greylist.set([`seen ${ctx::mail_from()}`, "a,b\"c"]) ],
        }"##;
    let sink = Sink::start();
    let mut mta = Mta::prepare(&settings(rules, &sink, ""));
    fs::write(mta.root().join("etc/vsmtp/users.csv"), "grey@src.test,1\n").unwrap();
    mta.launch();
    let send = |mta: &Mta, from: &str| {
        Client::hello(mta.port()).mail(from, &["b@dst.test"], "Subject: x\r\n\r\nx\r\n").0
    };
    assert!(send(&mta, "other@src.test").starts_with("250"), "{}", mta.log());
    assert_eq!(send(&mta, "grey@src.test"), "451 4.7.1 try again", "{}", mta.log());
    assert!(send(&mta, "grey@src.test").starts_with("250"), "{}", mta.log());
    let file = mta.root().join("var/lib/vsmtp/databases/greylist.csv");
    wait_until("the rules after the queue have written too", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.contains("seen grey@src.test,\"a,b\"\"c\"\n") && text.contains("grey@src.test,127.0.0.1\n")
    });
    mta.stop();
    mta.launch();
    assert!(send(&mta, "grey@src.test").starts_with("250"), "{}", mta.log());
    assert!(!mta.log().contains("event=script-failed"), "{}", mta.log());
    // What is delivered has passed all rules: nobody writes any more.
    wait_until("all has been delivered", || sink.count() == 3);
    // The folder is made again for the filters that start next. Those before them may still be asked, in vain.
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
    assert!(mta.ctl(&["reload"]).status.success(), "{}", mta.log());
    wait_until("the greylist begins anew", || {
        let reply = send(&mta, "grey@src.test");
        assert!(["250", "451"].contains(&&reply[..3]), "{reply} {}", mta.log());
        file.exists()
    });
}
