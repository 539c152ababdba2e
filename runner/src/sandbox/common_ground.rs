//! What every program may open: all but the places where programs' folders are, the runner's own and those of other runners.
//!
//! Landlock takes nothing away from what it has granted, so what is beside those places is granted piece by piece: what is
//! there when the runner starts. Nothing is opened here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use vsmtp_sys::sandbox::{PathGrant, Rights};

/// Most entries of one folder that are granted; `/` and `/var` have fewer.
const MAX_BESIDE: usize = 256;

/// For reading and executing, all that is not in one of these places, and what is said to be started from there, with what
/// is beside it; the sinks of the jail. The places are absolute, and no link is in them.
pub fn common_ground(places: &[PathBuf], programs: impl Iterator<Item = PathBuf>) -> Vec<PathGrant> {
    let granted = beside(places).into_iter().chain(programs.flat_map(|program| around(places, &program)));
    let granted = granted.map(|path| PathGrant { path, rights: Rights::ReadExecute });
    granted.chain(super::sinks()).collect()
}

/// All that is neither in a place nor on the way to one. A link is nothing by itself: what it leads to is here, or is not to be.
fn beside(places: &[PathBuf]) -> Vec<PathBuf> {
    let on_the_way: BTreeSet<&Path> = places.iter().flat_map(|place| place.ancestors().skip(1)).collect();
    let mut found = Vec::new();
    for folder in &on_the_way {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
        let closed = |path: &PathBuf| places.contains(path) || on_the_way.contains(path.as_path());
        let beside = entries.map(|entry| entry.path()).filter(|path| !closed(path));
        // A place may be in another one.
        let beside = beside.filter(|path| !places.iter().any(|place| path.starts_with(place)));
        found.extend(beside.take(MAX_BESIDE));
    }
    found
}

/// A program that is in a place, and its folder, unless that is the place.
fn around(places: &[PathBuf], program: &Path) -> Vec<PathBuf> {
    let Ok(program) = program.canonicalize() else { return Vec::new() };
    if !places.iter().any(|place| program.starts_with(place)) {
        return Vec::new();
    }
    let folder = program.parent().filter(|folder| !places.iter().any(|place| place.starts_with(folder)));
    folder.map(Path::to_owned).into_iter().chain([program.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_granted_but_the_places_and_links_into_them() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["usr/bin", "var/tmp/deeper", "var/lib", "tmp/one", "tmp/other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for program in ["tmp/one/program", "tmp/program"] {
            fs::write(root.join(program), "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("tmp"), root.join("link")).unwrap();
        let places = [root.join("var/tmp"), root.join("tmp")];
        let programs = ["tmp/one/program", "tmp/program", "usr/bin/none", "usr/bin", "link/one/program"]
            .map(|program| root.join(program));
        let granted = common_ground(&places, programs.into_iter());
        let mut granted: Vec<_> =
            granted.iter().filter_map(|grant| grant.path.strip_prefix(&root).ok()?.to_str()).collect();
        granted.sort_unstable();
        granted.dedup();
        assert_eq!(granted, ["tmp/one", "tmp/one/program", "tmp/program", "usr", "var/lib"]);
        // Nothing above them either.
        let granted = common_ground(&places, std::iter::empty());
        assert!(granted.iter().all(|grant| !root.starts_with(&grant.path)), "{granted:?}");
    }
}
