//! What a captured filter would try fails under its table.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use std::io::Write;
use std::path::Path;

use vsmtp_filter::judge::Folders;
use vsmtp_filter::process::sandbox;
use vsmtp_stage::jail;
use vsmtp_sys::sandbox::Landlock;

fn main() {
    match jail::word() {
        Some(root) => inside(&root),
        None => {
            the_judging_roles_can_do_nothing_but_judge();
            the_oneshot_role_reads_its_configuration_and_nothing_else();
            the_tool_reads_its_configuration_and_nothing_else();
            the_judging_roles_read_their_configuration_where_rules_use_lists();
            the_judging_roles_write_tables_in_one_folder_and_nowhere_else();
            the_judging_roles_write_files_in_one_folder_and_read_none();
            what_plugins_run_while_they_are_loaded_is_held_too();
            what_was_open_for_loading_is_closed_before_mail_comes();
        }
    }
}

fn inside(root: &str) {
    let (role, root) = root.split_once(':').unwrap();
    let profile = match (role, root) {
        ("judge", "") => sandbox::judge("filter-session", Folders::default()),
        ("judge", root) => {
            sandbox::judge("filter-session", Folders { watched: Some(Path::new(root)), ..Folders::default() })
        }
        ("keep", root) => {
            sandbox::judge("filter-session", Folders { kept: Some(Path::new(root)), ..Folders::default() })
        }
        ("write", root) => {
            sandbox::judge("filter-post", Folders { written: Some(Path::new(root)), ..Folders::default() })
        }
        ("narrow", _) => sandbox::judge("filter-session", Folders::default()),
        ("tool", root) => sandbox::tool(Some(root.into())),
        (_, root) => sandbox::oneshot(Some(root.into())),
    };
    let none = Path::new("/none");
    let loading = || sandbox::loading("filter-session", Path::new(root), none, none, &[root.into()]);
    let applied = match role {
        "load" => jail::try_all(loading()),
        "narrow" => jail::try_all_narrowed(&loading(), &profile),
        _ => jail::try_all(profile),
    };
    let script =
        std::fs::canonicalize(format!("{root}/filter.vsl")).and_then(std::fs::read_to_string).is_ok();
    let worker = std::thread::Builder::new().spawn(|| 7).map(|thread| thread.join().is_ok()).unwrap_or(false);
    let body = vsmtp_sys::memfd::Sealed::create(c"body", &[std::io::IoSlice::new(b"x")]).is_ok();
    let has_landlock = applied.landlock != Landlock::None;
    let body = match role {
        "keep" => keeps(root, has_landlock),
        "write" => writes(root, has_landlock),
        _ => body,
    };
    let works = [script, worker, body].map(|works| if works { '+' } else { '-' });
    writeln!(std::io::stdout().lock(), "{}", String::from_iter(works)).unwrap();
}

fn the_judging_roles_can_do_nothing_but_judge() {
    check("judge:", "-++");
}

fn the_oneshot_role_reads_its_configuration_and_nothing_else() {
    reads_one_folder("oneshot");
}

fn the_tool_reads_its_configuration_and_nothing_else() {
    reads_one_folder("tool");
}

fn the_judging_roles_read_their_configuration_where_rules_use_lists() {
    reads_one_folder("judge");
}

fn the_judging_roles_write_tables_in_one_folder_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("databases");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("filter.vsl"), "#{}").unwrap();
    // A file that is not there is looked for before anybody asks whether it may be renamed.
    check_but(&format!("keep:{}", folder.display()), "+++", &["rename file"]);
}

fn the_judging_roles_write_files_in_one_folder_and_read_none() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("app");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("filter.vsl"), "#{}").unwrap();
    // As above, of a file that may be removed too.
    check_but(&format!("write:{}", folder.display()), "-++", &["remove file", "rename file"]);
    // The process was in its jail when it wrote these, and not when it read them.
    assert_eq!(std::fs::read(folder.join("archive/1.eml")).unwrap(), b"text");
    assert_eq!(std::fs::read_dir(folder.join("archive")).unwrap().count(), 1);
}

fn what_plugins_run_while_they_are_loaded_is_held_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("filter.vsl"), "#{}").unwrap();
    // Files that are not there are looked for before anybody asks whether they may be removed.
    let allowed = ["remove file", "rename file", "executable mapping"];
    check_but(&format!("load:{}", dir.path().display()), "+++", &allowed);
}

fn what_was_open_for_loading_is_closed_before_mail_comes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("filter.vsl"), "#{}").unwrap();
    check(&format!("narrow:{}", dir.path().display()), "-++");
}

/// Files can be put into the folder, and neither read nor put beside it.
fn writes(root: &str, has_landlock: bool) -> bool {
    let deposit = vsmtp_filter::deposit::Deposit::at(Path::new(root), 0, 4);
    deposit.open();
    let text = vsmtp_filter::runner::Input::Bytes(b"text".to_vec());
    let written =
        deposit.write("archive", "1.eml", &text).and_then(|()| deposit.write("archive", "1.eml", &text));
    let refused = [
        std::fs::write(format!("{root}/../outside"), "x"),
        std::fs::read(format!("{root}/archive/1.eml")).map(drop),
        std::fs::rename(format!("{root}/archive/1.eml"), format!("{root}/../outside")),
        std::fs::create_dir(format!("{root}/../outside")),
        std::os::unix::fs::symlink("/etc/passwd", format!("{root}/link")),
        std::fs::hard_link(format!("{root}/archive/1.eml"), format!("{root}/link")),
    ];
    let mut refused = refused.into_iter().map(|act| act.err().is_some_and(|error| jail::is_denial(&error)));
    written.is_ok() && (!has_landlock || refused.all(|refused| refused))
}

/// A table can be kept in the folder, and nothing beside it.
fn keeps(root: &str, has_landlock: bool) -> bool {
    let databases = vsmtp_filter::csv::Databases::at(Path::new(root));
    let store = vsmtp_filter::csv::Store::open(&databases, "table.csv", ',', true).unwrap();
    let kept = store.set(vec!["key".to_owned(), "value".to_owned()]).is_ok()
        && store.get("key").is_ok_and(|row| row.len() == 2);
    kept && (!has_landlock || std::fs::write(format!("{root}/../outside"), "x").is_err())
}

fn reads_one_folder(role: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("filter.vsl"), "#{}").unwrap();
    check(&format!("{role}:{}", dir.path().display()), "+++");
}

fn check(root: &str, works: &str) {
    check_but(root, works, &[]);
}

fn check_but(root: &str, works: &str, allowed: &[&str]) {
    let written = jail::inside(root, &[]);
    assert_eq!(jail::possible(&written), allowed);
    assert_eq!(written.lines().last(), Some(works), "script, thread, body");
}
