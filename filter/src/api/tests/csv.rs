//! Tables in CSV files, as scripts use them.

use super::*;
use crate::csv::Databases;

/// The folder in which the tables of all tests are.
pub static DATABASES: LazyLock<(tempfile::TempDir, Arc<Databases>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let databases = Databases::at(dir.path());
    (dir, databases)
});

#[test]
fn tables_are_read_kept_and_changed_as_scripts_of_both_dialects_do() {
    for script in [
        "service users db:csv = #{ connector: \"lists/users.csv\", access: \"O_RDONLY\", refresh: \"always\", delimiter: \",\" }; users.get(\"jane\") == [\"jane\", \"admin\"]",
        "const users = csv(#{ connector: \"lists/users.csv\", access: \"O_RDONLY\", refresh: \"no\" }); users.get(\"joe\")[1] == \"a, b\"",
        "const g = csv(#{ connector: \"grey.csv\", delimiter: '|' }); if g.get(\"a|b\\nc\") == [] { g.set([\"a|b\\nc\", 5, address(\"x@y.z\")]); } g.get(\"a|b\\nc\") == [\"a|b\\nc\", \"5\", \"x@y.z\"]",
        "const w = csv(#{ connector: \"written.csv\", access: \"O_WRONLY\" }); w.set([\"k\", \"v\"]); w.rm(\"k\") && !w.rm(\"k\")",
    ] {
        run_example(&engine(), at(Stage::Connect), script)
            .unwrap_or_else(|error| panic!("{script}: {error}"));
    }
}

#[test]
fn what_is_no_table_or_not_allowed_is_refused() {
    for (script, words) in [
        ("csv(#{})", "needs an entry 'connector'"),
        ("csv(#{ connector: \"x\", acces: \"O_RDWR\" })", "no entry 'acces'"),
        ("csv(#{ connector: \"x\", access: \"rw\" })", "not 'rw'"),
        ("csv(#{ connector: \"x\", refresh: \"sometimes\" })", "not 'sometimes'"),
        ("csv(#{ connector: \"x\", delimiter: \"::\" })", "one character"),
        ("csv(#{ connector: \"x\", delimiter: '\"' })", "one character"),
        ("csv(#{ connector: 5 })", "is a text"),
        ("csv(#{ connector: \"../x.csv\" })", "cannot be a table that is written"),
        ("csv(#{ connector: \"/etc/passwd\", access: \"O_RDONLY\" })", "outside the folder"),
        ("csv(#{ connector: \"none.csv\", access: \"O_RDONLY\" })", "cannot be read"),
        ("csv(#{ connector: \"lists/users.csv\", access: \"O_RDONLY\" }).set([\"a\"])", "only read"),
        ("csv(#{ connector: \"lists/users.csv\", access: \"O_RDONLY\" }).rm(\"a\")", "only read"),
        ("csv(#{ connector: \"w.csv\", access: \"O_WRONLY\" }).get(\"a\")", "only written"),
        ("csv(#{ connector: \"w.csv\" }).set([])", "needs a first field"),
        ("csv(#{ connector: \"w.csv\" }).set([\"a\", #{}])", "not a map"),
    ] {
        let error = run_example(&engine(), at(Stage::Connect), script).unwrap_err();
        assert!(error.contains(words), "{script}: {error}");
    }
}
