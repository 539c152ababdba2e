//! The documentation against the source, by plain text: links, files and tests that are named, log lines, limits, names.
//! What these tests cannot see is whether a sentence is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Sections of the table of log lines, and where their lines are written.
const SPEAKERS: [(&str, &str); 14] = [
    ("every process", "lib/daemon/src"),
    ("who keeps state", "lib/keeper/src"),
    ("master", "master/src"),
    ("receiver", "receiver/src"),
    ("filter", "filter/src"),
    ("native plugins", "filter/plugin/src"),
    ("queue-manager", "queue-manager/src"),
    ("deliver", "deliver/src"),
    ("resolver", "resolver/src"),
    ("limits", "limits/src"),
    ("auth", "auth/src"),
    ("keys", "keys/src"),
    ("runner", "runner/src"),
    ("database", "database/src"),
];

/// Log lines of the queue-manager whose name the source chooses at run time, by the variable in `Record::new(variable)`.
const CHOSEN: [(&str, [&str; 3]); 2] = [
    ("event", ["delivered", "deferred", "failed"]),
    ("answer", ["delegated", "delegation-deferred", "delegation-refused"]),
];

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        for target in between(&read(&page), "](", ")") {
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            if path.contains("://") {
                continue;
            }
            let from = page.parent().expect("a page lies in a folder");
            let to = if path.is_empty() { page.clone() } else { from.join(path) };
            assert!(to.exists(), "{}: link to {target}", page.display());
            let is_there = || read(&to).lines().any(|line| anchor_of(line) == Some(anchor.to_owned()));
            assert!(anchor.is_empty() || is_there(), "{}: link to {target}", page.display());
        }
    }
}

#[test]
fn every_file_and_every_test_that_is_named_exists() {
    for page in pages() {
        for word in words_in_code(&read(&page)) {
            let (path, test) = word.split_once("::").map_or((word.as_str(), None), |(p, t)| (p, Some(t)));
            let top = path.split('/').next().unwrap_or_default();
            if !path.contains('/') || top.is_empty() || !Path::new(ROOT).join(top).is_dir() {
                continue;
            }
            let file = Path::new(ROOT).join(path);
            assert!(file.exists(), "{}: {word} is not there", page.display());
            if let Some(test) = test {
                assert!(read(&file).contains(&format!("fn {test}(")), "{}: {word}", page.display());
            }
        }
    }
}

#[test]
fn every_log_line_is_documented_and_nothing_else() {
    let lines = section(&docs("administration.md"), "## ", "Log lines");
    for (speaker, folder) in SPEAKERS {
        let written = events(folder);
        let documented: BTreeMap<String, BTreeSet<String>> = rows(&section(&lines, "### ", speaker))
            .into_iter()
            .map(|cells| {
                (bare(&cells[0]), cells[2].split(',').map(bare).filter(|key| !key.is_empty()).collect())
            })
            .collect();
        let names = |keys: Vec<&String>| keys.into_iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(documented.keys().collect()), names(written.keys().collect()), "{speaker}");
        for (name, fields) in written {
            assert_eq!(documented[&name], fields, "fields of {speaker}: {name}");
        }
    }
}

#[test]
fn limits_are_those_of_the_source() {
    let page = docs("architecture.md");
    let limits = rows(&section(&page, "## ", "Limits"));
    assert!(limits.len() > 20, "the table of limits is found");
    for cells in limits {
        let (name, file) = (bare(&cells[0]), bare(&cells[1]));
        let value = constant(&file, &name).unwrap_or_else(|| panic!("{name} is not in {file}"));
        assert_eq!(number(&cells[2]), Some(value), "{name} in {file}");
    }
    let edges = rows(&section(&page, "## ", "Edges"));
    for file in files(&Path::new(ROOT).join("ipc/src/edge")) {
        let name =
            file.file_stem().and_then(|stem| stem.to_str()).expect("edges have plain names").to_owned();
        let row = edges.iter().find(|cells| bare(&cells[0]) == name);
        let row = row.unwrap_or_else(|| panic!("edge {name} is not in the table"));
        assert_eq!(
            number(&row[3]),
            constant(&format!("ipc/src/edge/{name}.rs"), "CREDITS"),
            "credits of {name}"
        );
    }
}

/// `docs/architecture.md`, "Misbehaviour": whoever reports only some of the ends of an edge leaves two processes apart that live.
#[test]
fn a_peer_is_reported_in_one_way_whatever_became_of_its_edge() {
    // The loop, the master who hears it, and deliver, which ends itself where the fault is its own.
    const KNOW_IT: [&str; 3] =
        ["lib/daemon/src/reactor.rs", "master/src/master/children.rs", "deliver/src/queue.rs"];
    let mut found = BTreeSet::new();
    for (_, folder) in SPEAKERS {
        for file in files(&Path::new(ROOT).join(folder)) {
            if without_tests_and_comments(&file).contains("ToMaster::Misbehaved(") {
                let name = file.strip_prefix(ROOT).expect("below the root").display().to_string();
                found.insert(name);
            }
        }
    }
    assert_eq!(found, KNOW_IT.map(str::to_owned).into());
}

#[test]
fn every_binary_role_user_and_crate_has_its_place() {
    let page = words_in_code(&docs("architecture.md"));
    let source = |path: &str| read(&Path::new(ROOT).join(path));
    let roles = source("ipc/src/role.rs");
    let mut names = between(&roles, "=> \"", "\"");
    for path in ["master/src/launch.rs", "master/src/accounts.rs", "tests/tests/arrows.rs"] {
        let quoted = between(&source(path), "\"", "\"");
        names.extend(quoted.into_iter().filter(|name| name.starts_with("vsmtp-") && !name.ends_with('-')));
    }
    assert!(names.len() > 20, "the names are found");
    for name in names {
        let listed = page.iter().any(|word| *word == name || word.ends_with(&format!(":{name}")));
        assert!(listed, "{name} is not in architecture.md");
    }
}

#[test]
fn every_command_of_vsmtpctl_is_documented() {
    let page = docs("administration.md");
    let manual = manual("vsmtpctl.8");
    let source = read(&Path::new(ROOT).join("ctl/src/arguments.rs"));
    for (of, prefix) in [
        ("Command", ""),
        ("QueueCommand", "queue "),
        ("ConfigCommand", "config "),
        ("LimitsCommand", "limits "),
        ("AuthCommand", "auth "),
        ("DkimCommand", "dkim "),
        ("VslCommand", "vsl "),
    ] {
        let found = between(&source, &format!("pub enum {of} {{"), "\n}");
        let body = found.first().unwrap_or_else(|| panic!("{of} is gone"));
        let is_variant = |line: &&str| line.starts_with("    ") && line[4..].starts_with(char::is_uppercase);
        for line in body.lines().filter(is_variant) {
            let name: String = line.trim().chars().take_while(char::is_ascii_alphabetic).collect();
            if of == "Command" && ["Queue", "Config", "Auth", "Dkim", "Vsl"].contains(&name.as_str()) {
                continue;
            }
            let command = format!("{prefix}{}", name.to_lowercase());
            assert!(page.contains(&format!("vsmtpctl {command}")), "{command} is not in administration.md");
            assert!(manual.contains(&command), "{command} is not in vsmtpctl(8)");
        }
    }
}

#[test]
fn the_manual_knows_every_option_and_every_signal_of_the_master() {
    let source = read(&Path::new(ROOT).join("master/src/arguments.rs"));
    let help = between(&source, "HELP: &str = \"", "\";").concat();
    let manual = manual("vsmtp.8");
    let said = |word: &&str| word.starts_with('-') || word.starts_with("SIG");
    let words: Vec<&str> = help.split([' ', ',', '[', ']', '|', '\n']).filter(said).collect();
    assert!(words.len() > 8, "the help is found");
    for word in words {
        assert!(manual.contains(word), "{word} is not in vsmtp(8)");
    }
}

#[test]
fn what_postfix_has_is_said_in_keys_and_functions_that_exist() {
    let keys: BTreeSet<String> = between(&docs("configuration.md"), "\n### `", "`").into_iter().collect();
    let tops: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let (mut named, mut functions) = (0, 0);
    for word in words_in_code(&docs("migration.md")) {
        if tops.contains(word.split('.').next().unwrap_or_default()) {
            assert!(keys.contains(&word), "there is no key {word}");
            named += 1;
        }
        let function = word.split('(').next().unwrap_or_default();
        if let Some((module, name)) = function.split_once("::") {
            let page = docs(&format!("vsl/{module}.md"));
            assert!(
                name.is_empty() || page.contains(&format!("\n## {function}\n")),
                "there is no {function}"
            );
            functions += 1;
        }
    }
    assert!(named > 80 && functions > 10, "{named} keys and {functions} functions are found");
}

#[test]
fn every_page_is_in_the_index() {
    let index = docs("README.md");
    for page in pages().iter().filter(|page| page.parent().is_some_and(|folder| folder.ends_with("docs"))) {
        let name = page.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(
            name == "README.md" || index.contains(&format!("]({name})")),
            "{name} is not in docs/README.md"
        );
    }
}

#[test]
fn every_difference_of_the_language_names_its_test() {
    let page = docs("vsl/differences.md");
    let mut sources = String::new();
    for folder in [
        "filter",
        "keys",
        "resolver",
        "runner",
        "database",
        "lib/sys",
        "lib/config",
        "tests/tests/edge",
        "tests/tests/plugins",
        "tests/tests/policy",
        "tests/tests/tls",
    ] {
        all_text(&Path::new(ROOT).join(folder), &mut sources);
    }
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    let heads = 2 * rows.iter().filter(|row| row.starts_with("| ---")).count();
    let named = rows.iter().filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    let tests: Vec<&str> = named.filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`')).collect();
    assert!(tests.len() > 30 && rows.len() - tests.len() == heads, "every row but the heads names a test");
    for test in tests {
        assert!(sources.contains(&format!("fn {test}()")), "{test} is not there");
    }
}

/// Log lines below a folder, each with its fields.
fn events(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |name: &str, fields: &[String]| {
        found.entry(name.to_owned()).or_default().extend(fields.iter().cloned());
    };
    for file in files(&Path::new(ROOT).join(folder)) {
        let source = without_tests_and_comments(&file);
        for opening in ["Record::new(", "Record::at("] {
            for (at, _) in source.match_indices(opening) {
                let rest = &source[at + opening.len()..];
                let argument = rest.split(')').next().unwrap_or_default();
                let statement = rest.split(".emit()").next().unwrap_or_default();
                let keys: Vec<String> = [".field(", ".maybe("]
                    .iter()
                    .flat_map(|call| statement.split(call).skip(1))
                    .filter_map(|call| between(call, "\"", "\"").into_iter().next())
                    .collect();
                match between(argument, "\"", "\"").first() {
                    Some(name) => add(name, &keys),
                    None => {
                        let chosen = CHOSEN.iter().filter(|(variable, _)| *variable == argument);
                        chosen.flat_map(|(_, names)| names).for_each(|name| add(name, &keys));
                    }
                }
            }
        }
        for (at, _) in source.match_indices("trouble(\"") {
            let name = source[at..].split('"').nth(1).unwrap_or_default();
            add(name, &["error".to_owned()]);
        }
        for (at, _) in source.match_indices("event=") {
            let text = source[at + "event=".len()..].replace("\\\"", " ");
            let line = text.split('"').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            let keys = words.filter_map(|word| word.split_once('=')).map(|(key, _)| key.to_owned());
            add(name, &keys.collect::<Vec<_>>());
        }
    }
    found
}

/// The source without the module of unit tests at its end, and without lines that are comments.
fn without_tests_and_comments(file: &Path) -> String {
    let source = read(file);
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    code.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// The value of a constant that is a number, or a product or shift of numbers.
fn constant(file: &str, name: &str) -> Option<u64> {
    let source = read(&Path::new(ROOT).join(file));
    let line = source.lines().find(|line| line.contains(&format!("const {name}:")))?;
    let expression = line.split_once('=')?.1.trim().trim_end_matches(';');
    let mut factors = expression.split('*').map(|factor| {
        let mut parts = factor.split("<<").map(|part| part.trim().replace('_', "").parse::<u64>().ok());
        let first = parts.next()??;
        parts.try_fold(first, |value, shift| Some(value << shift?))
    });
    factors.try_fold(1, |product, factor| Some(product * factor?))
}

/// The number in a cell, which may have commas; `None` if it holds words.
fn number(cell: &str) -> Option<u64> {
    cell.trim().replace(',', "").parse().ok()
}

/// A cell's text without the marks of code.
fn bare(cell: &str) -> String {
    cell.trim().trim_matches('`').to_owned()
}

/// The rows of all tables whose first cell is code.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells =
        |line: &str| line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    text.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

/// What a link says to lead to this line, if it is a heading.
fn anchor_of(line: &str) -> Option<String> {
    let (mark, heading) = line.split_once(' ')?;
    let is_heading = !mark.is_empty() && mark.chars().all(|c| c == '#');
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    is_heading.then(|| kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect())
}

/// What stands below a heading, up to the next one of its rank or above.
fn section(text: &str, rank: &str, heading: &str) -> String {
    let is_mark = |mark: &str| mark.len() < rank.len() && mark.chars().all(|c| c == '#');
    let ends = |line: &str| line.split_once(' ').is_some_and(|(mark, _)| !mark.is_empty() && is_mark(mark));
    let below = text.lines().skip_while(|line| *line != format!("{rank}{heading}")).skip(1);
    let lines: Vec<&str> = below.take_while(|line| !ends(line)).collect();
    assert!(!lines.is_empty(), "heading {heading} is gone");
    lines.join("\n")
}

/// Everything that stands between two marks.
fn between(text: &str, opening: &str, closing: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((_, behind)) = rest.split_once(opening) {
        let Some((inside, after)) = behind.split_once(closing) else { break };
        found.push(inside.to_owned());
        rest = after;
    }
    found
}

/// Words in backticks, outside blocks of code.
fn words_in_code(text: &str) -> Vec<String> {
    let outside = text.split("\n```").step_by(2);
    outside.flat_map(|part| part.lines().flat_map(|line| between(line, "`", "`"))).collect()
}

fn pages() -> Vec<PathBuf> {
    let folder = fs::read_dir(Path::new(ROOT).join("docs")).expect("list docs");
    let pages = folder.map(|entry| entry.expect("read an entry").path());
    let mut pages: Vec<PathBuf> = pages.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.extend(["README.md", "CONTRIBUTING.md"].map(|name| Path::new(ROOT).join(name)));
    pages
}

/// Source files below a folder, without those that are tests as a whole.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("list a folder of the source") {
        let path = entry.expect("read an entry").path();
        match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("tests") => {}
            _ if path.is_dir() => found.extend(files(&path)),
            _ if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

/// A manual page without the marks of roff.
fn manual(name: &str) -> String {
    read(&Path::new(ROOT).join("packaging/man").join(name)).replace('\\', "")
}

/// Every source below a folder, tests too.
fn all_text(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).expect("list a folder of the source") {
        let path = entry.expect("read an entry").path();
        if path.is_dir() {
            all_text(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push_str(&read(&path));
        }
    }
}

fn docs(name: &str) -> String {
    read(&Path::new(ROOT).join("docs").join(name))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}
