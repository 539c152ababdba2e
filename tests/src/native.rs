//! Native plugins for tests: compiled where a test needs them, and put where a configuration has them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mta::Mta;
use crate::program::{run, said};

/// The folder of the sources.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A source of the project.
pub fn source(name: &str) -> PathBuf {
    Path::new(SOURCES).join(name)
}

/// Compiles a plugin in C; `more` are words for the compiler.
pub fn compile(source: &Path, made: &Path, more: &[&str]) {
    let include = format!("-I{SOURCES}/plugins/api/include");
    let (source, made) = (source.display().to_string(), made.display().to_string());
    let words =
        ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-pthread", &include];
    let words = [&words[..], more, &["-o", &made, &source]].concat();
    let compiled = run("cc", &words);
    assert!(compiled.status.success(), "{}", said(&compiled));
}

/// Has cargo build a plugin in Rust, as words of `cargo build` name it; where `file` is then, below the folder of what it
/// builds.
pub fn build(words: &[&str], file: &str) -> PathBuf {
    let folder = Path::new(SOURCES).join("target");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--offline", "--target-dir"]).arg(&folder).args(words);
    let built = cargo.current_dir(SOURCES).output().expect("run cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.join("debug").join(file)
}

/// Puts a plugin where packages put it, and a link to it where scripts import it from. The file itself.
pub fn install(mta: &Mta, name: &str, from: &Path) -> PathBuf {
    let library = place(mta).join(format!("{name}.so"));
    // A new file: the old one may be in use.
    let new = library.with_extension("new");
    fs::copy(from, &new).expect("copy a plugin");
    fs::rename(&new, &library).expect("put a plugin in its place");
    link(mta, name, &library);
    library
}

/// Links a file into the folder of plugins, in the place of what was there by that name.
pub fn link(mta: &Mta, name: &str, to: &Path) {
    let link = folder(mta).join(format!("{name}.so"));
    let _ = fs::remove_file(&link);
    symlink(to, link).expect("link a plugin");
}

/// Where the files are.
pub fn place(mta: &Mta) -> PathBuf {
    made(mta.root().join("usr/lib/vsmtp"))
}

/// Where the links are.
pub fn folder(mta: &Mta) -> PathBuf {
    made(mta.root().join("etc/vsmtp/plugins"))
}

fn made(folder: PathBuf) -> PathBuf {
    fs::create_dir_all(&folder).expect("make a folder");
    folder
}
