//! The arrows between crates, held against `cargo metadata`: who may depend on whom, and who may use what.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What daemons' tests stand on, and programs must not.
const STAGE: &str = "vsmtp-stage";

/// Daemons that have such tests.
const STAGED: [&str; 10] = [
    "vsmtp-auth",
    "vsmtp-deliver",
    "vsmtp-resolver",
    "vsmtp-database",
    "vsmtp-runner",
    "vsmtp-keys",
    "vsmtp-limits",
    "vsmtp-queue-manager",
    "vsmtp-filter",
    "vsmtp-receiver",
];

/// Our own crates and what of ours each may name. Development dependencies count.
const OURS: [(&str, &[&str]); 25] = [
    ("vsmtp-mail", &[]),
    ("vsmtp-sys", &[]),
    ("vsmtp-config", &["vsmtp-mail"]),
    ("vsmtp-smtp", &["vsmtp-mail"]),
    ("vsmtp-tls", &[]),
    ("vsmtp-plugin", &[]),
    ("vsmtp-example-plugin", &["vsmtp-plugin"]),
    ("vsmtp-plugin-loader", &["vsmtp-plugin"]),
    ("vsmtp-ipc", &["vsmtp-mail", "vsmtp-config", "vsmtp-sys"]),
    ("vsmtp-daemon", &["vsmtp-mail", "vsmtp-config", "vsmtp-sys", "vsmtp-ipc"]),
    ("vsmtp-keeper", &["vsmtp-sys", "vsmtp-daemon"]),
    (STAGE, &["vsmtp-sys", "vsmtp-ipc"]),
    ("vsmtp-master", &["vsmtp-mail", "vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-daemon"]),
    (
        "vsmtp-receiver",
        &["vsmtp-mail", "vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-daemon", "vsmtp-smtp", "vsmtp-tls"],
    ),
    (
        "vsmtp-filter",
        &[
            "vsmtp-mail",
            "vsmtp-config",
            "vsmtp-sys",
            "vsmtp-ipc",
            "vsmtp-daemon",
            "vsmtp-smtp",
            "vsmtp-plugin-loader",
        ],
    ),
    ("vsmtp-queue-manager", &["vsmtp-mail", "vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-daemon"]),
    (
        "vsmtp-deliver",
        &["vsmtp-mail", "vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-daemon", "vsmtp-smtp", "vsmtp-tls"],
    ),
    (
        "vsmtp-resolver",
        &[
            "vsmtp-mail",
            "vsmtp-config",
            "vsmtp-sys",
            "vsmtp-ipc",
            "vsmtp-daemon",
            "vsmtp-keeper",
            "vsmtp-tls",
        ],
    ),
    (
        "vsmtp-limits",
        &["vsmtp-mail", "vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-daemon", "vsmtp-keeper"],
    ),
    ("vsmtp-keys", &["vsmtp-mail", "vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-daemon"]),
    ("vsmtp-runner", &["vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-daemon"]),
    // TLS towards directories; nothing falls back to clear text.
    ("vsmtp-database", &["vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-daemon", "vsmtp-tls"]),
    // vsmtpctl reads a spool offline and makes lines of passwords, so it may use the library halves of those who do.
    (
        "vsmtp-ctl",
        &["vsmtp-mail", "vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-queue-manager", "vsmtp-auth"],
    ),
    ("vsmtp-auth", &["vsmtp-mail", "vsmtp-config", "vsmtp-sys", "vsmtp-ipc", "vsmtp-daemon"]),
    ("vsmtp-tests", &[]),
];

/// Third-party crates that only some may reach, directly or through others.
const RESERVED: [(&str, &[&str]); 14] = [
    // Passwords are checked in one process; vsmtpctl makes lines for it.
    ("argon2", &["vsmtp-auth", "vsmtp-ctl"]),
    ("bcrypt", &["vsmtp-auth", "vsmtp-ctl"]),
    ("yescrypt", &["vsmtp-auth", "vsmtp-ctl"]),
    ("rhai", &["vsmtp-filter"]),
    ("libloading", &["vsmtp-plugin-loader", "vsmtp-filter"]),
    ("mail-parser", &["vsmtp-filter"]),
    ("tokio", &["vsmtp-resolver"]),
    ("hickory-resolver", &["vsmtp-resolver"]),
    ("hickory-proto", &["vsmtp-resolver"]),
    // The key holder needs the signing code and the PEM reader, and has no network.
    (
        "rustls",
        &[
            "vsmtp-keys",
            "vsmtp-tls",
            "vsmtp-receiver",
            "vsmtp-deliver",
            "vsmtp-resolver",
            "vsmtp-database",
            "vsmtp-tests",
        ],
    ),
    (
        "aws-lc-rs",
        &[
            "vsmtp-auth",
            "vsmtp-ctl",
            "vsmtp-keys",
            "vsmtp-tls",
            "vsmtp-receiver",
            "vsmtp-deliver",
            "vsmtp-resolver",
            "vsmtp-database",
            "vsmtp-tests",
        ],
    ),
    // Strangers' rows are read in one process, which holds nothing but passwords of databases.
    ("mysql", &["vsmtp-database"]),
    ("rusqlite", &["vsmtp-database"]),
    ("openssl-sys", &[]),
];

type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_crate_names_only_what_it_may() {
    let graph = graph();
    for (name, allowed) in OURS {
        let named = graph.get(name).unwrap_or_else(|| panic!("{name} is gone"));
        let ours = named.iter().filter(|dependency| dependency.starts_with("vsmtp-"));
        for dependency in ours {
            let may = allowed.contains(&dependency.as_str()) || dependency == STAGE && STAGED.contains(&name);
            assert!(may, "{name} must not depend on {dependency}");
        }
    }
    let known: BTreeSet<&str> = OURS.iter().map(|(name, _)| *name).collect();
    let all = graph.keys().filter(|name| name.starts_with("vsmtp-"));
    for name in all {
        assert!(known.contains(name.as_str()), "{name} is not in the table of arrows");
    }
}

/// Folders whose code may be unsafe: the kernel's, and what is spoken over the C interface of plugins.
const UNSAFE: [&str; 4] = ["lib/sys", "filter/plugin", "plugins/api", "plugins/examples/rust"];

#[test]
fn every_other_crate_forbids_unsafe_code() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut seen = 0;
    for package in list(&metadata()["packages"]) {
        let name = text(&package["name"]);
        if !name.starts_with("vsmtp-") {
            continue;
        }
        let folder = std::path::PathBuf::from(text(&package["manifest_path"]));
        let folder = folder.parent().expect("the folder of a crate");
        if UNSAFE.iter().any(|may| folder.ends_with(may)) {
            seen += 1;
            continue;
        }
        let library = folder.join("src/lib.rs");
        let said = std::fs::read_to_string(&library).expect("read the face of a crate");
        assert!(said.contains("#![forbid(unsafe_code)]"), "{} in {root}", library.display());
    }
    assert_eq!(seen, UNSAFE.len(), "the folders are found");
}

#[test]
fn what_tests_stand_on_is_in_no_program() {
    let metadata = metadata();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let arrows =
        nodes.iter().flat_map(|node| list(&node["deps"]).into_iter().map(|dep| (node["id"].clone(), dep)));
    let mut kinds = Vec::new();
    for (from, arrow) in arrows.filter(|(_, arrow)| arrow["name"] == STAGE.replace('-', "_")) {
        for kind in list(&arrow["dep_kinds"]) {
            assert_eq!(kind["kind"], "dev", "{from} has {STAGE} in its program");
            kinds.push(kind);
        }
    }
    assert_eq!(kinds.len(), STAGED.len(), "the graph shows what is there");
}

#[test]
fn scripts_plugins_dns_and_tls_stay_where_they_belong() {
    let graph = graph();
    for (name, _) in OURS {
        let reached = reach(&graph, name);
        for (reserved, wrappers) in RESERVED {
            assert!(
                !reached.contains(reserved) || wrappers.contains(&name),
                "{name} must not reach {reserved}"
            );
        }
    }
    assert!(reach(&graph, "vsmtp-filter").contains("rhai"), "the graph shows what is there");
}

/// `cargo deny` is run by few; so that it says what is true for whoever runs it, its list is held here too.
#[test]
fn what_deny_toml_reserves_is_used_by_its_wrappers_only() {
    let graph = graph();
    let rules = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deny.toml"));
    let rules = rules.expect("read deny.toml");
    let mut seen = 0;
    for line in rules.lines().filter(|line| line.contains("{ crate = ")) {
        let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let (name, others) = words.split_first().expect("the name of a crate");
        // Without a list nobody may.
        let wrappers = others.get(..others.len() - 1).expect("a reason");
        for (user, _) in graph.iter().filter(|(_, named)| named.contains(*name)) {
            assert!(wrappers.contains(&user.as_str()), "{user} names {name}, and deny.toml does not let it");
        }
        seen += 1;
    }
    assert!(seen >= 9, "the list is found");
}

/// Names and their dependencies, build and development ones too for our own crates.
fn graph() -> Graph {
    let metadata = metadata();
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let dependencies =
                list(&node["dependencies"]).iter().filter_map(|id| names.get(&text(id)).cloned()).collect();
            (names.get(&text(&node["id"])).cloned().unwrap_or_default(), dependencies)
        })
        .collect()
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("metadata is JSON")
}

fn list(value: &serde_json::Value) -> Vec<serde_json::Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn reach(graph: &Graph, from: &str) -> BTreeSet<String> {
    let (mut seen, mut pending) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(name) = pending.pop() {
        for next in graph.get(&name).into_iter().flatten() {
            if seen.insert(next.clone()) {
                pending.push(next.clone());
            }
        }
    }
    seen
}
