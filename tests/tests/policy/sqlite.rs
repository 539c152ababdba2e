//! Tables in files of SQLite: looked up by a process that only reads, followed when another file takes their place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vsmtp_tests::{Client, Mta, Sink, make_sqlite, wait_until};

use crate::settings;

const RULES: &str = r##"
    const users = table("sqlite:FOLDER/users.db?query=select name from users where address = '%s' and domain = '%d'");
    const aliases = table("sqlite:maps/aliases.cf");
    #{
        rcpt: [ rule "who" || {
            let rcpt = ctx::rcpt();
            if rcpt in users { return state::reject(`550 5.1.1 ${users[rcpt]}`); }
            let goes_to = aliases.address(rcpt);
            if goes_to != () { return state::reject(`551 5.1.6 ${goes_to}`); }
            state::next()
        } ],
    }"##;

/// A new file in the place of the old one, as a program that writes one does it.
fn users(folder: &Path, name: &str) {
    let sql = format!(
        "create table users (address text, domain text, name text); \
         insert into users values ('jane@dst.test', 'dst.test', '{name}'); \
         create table aliases (alias text, target text); \
         insert into aliases values ('@all.test', 'a@b.test'), ('@all.test', 'c@d.test');"
    );
    make_sqlite(&folder.join("new.db"), &sql);
    fs::rename(folder.join("new.db"), folder.join("users.db")).unwrap();
}

fn rcpt(mta: &Mta, recipient: &str) -> String {
    let mut client = Client::hello(mta.port());
    client.say("MAIL FROM:<a@src.test>");
    client.say(&format!("RCPT TO:<{recipient}>")).0
}

#[test]
fn a_file_of_sqlite_is_looked_up_and_the_next_one_too() {
    let sink = Sink::start();
    let mut mta = Mta::prepare(&settings("", &sink, ""));
    let folder = mta.root().join("accounts");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let (place, maps) = (folder.display().to_string(), mta.root().join("etc/vsmtp/maps"));
    let config = "config.filter.on_error = \"deny\";";
    mta.write_configuration(&settings(&RULES.replace("FOLDER", &place), &sink, config));
    fs::create_dir_all(&maps).unwrap();
    let file = format!(
        "# as Postfix has it\ndbpath = {place}/users.db\nquery = SELECT target FROM aliases\n  WHERE alias = '%s'\n\
         result_format = <%u at %d>\n"
    );
    fs::write(maps.join("aliases.cf"), file).unwrap();
    mta.launch();
    // There is no file yet: nobody can tell whether there is such a user.
    assert!(rcpt(&mta, "jane@dst.test").starts_with("451 "), "{}", mta.log());
    users(&folder, "Jane");
    assert_eq!(rcpt(&mta, "jane@dst.test"), "550 5.1.1 Jane", "{}", mta.log());
    assert_eq!(rcpt(&mta, "Jane@DST.test"), "550 5.1.1 Jane", "{}", mta.log());
    assert_eq!(rcpt(&mta, "x@all.test"), "551 5.1.6 <a at b.test>,<c at d.test>", "{}", mta.log());
    for stranger in ["joe@dst.test", "\"' or ''='\"@dst.test", "\"'; drop table users; --\"@dst.test"] {
        assert!(rcpt(&mta, stranger).starts_with("250 "), "{stranger}: {}", mta.log());
    }
    users(&folder, "Joan");
    assert_eq!(rcpt(&mta, "jane@dst.test"), "550 5.1.1 Joan", "{}", mta.log());
    fs::remove_file(folder.join("users.db")).unwrap();
    assert!(rcpt(&mta, "jane@dst.test").starts_with("451 "), "{}", mta.log());
    // What is wrong is an error at start.
    for wrong in ["table(\"sqlite:users.db?query=select '%s'\")", "table(\"sqlite:/a.db?query=select 1\")"] {
        mta.write_configuration(&settings(&format!("const a = {wrong}; #{{}}"), &sink, ""));
        assert!(!mta.ctl(&["reload"]).status.success(), "{wrong}: {}", mta.log());
    }
    users(&folder, "Jane");
    wait_until("the old rules still count", || rcpt(&mta, "jane@dst.test") == "550 5.1.1 Jane");
}
