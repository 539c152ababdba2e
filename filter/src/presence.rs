//! Whether a file or folder of the configuration is there. Only a name that does not exist is absent: what cannot be looked
//! at, and a link that leads nowhere, is an error, since rules that are silently left out let through what they forbid.

use std::fs::{Metadata, metadata, symlink_metadata};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::engine::{Location, ScriptError};

/// True if there is something under this name.
///
/// # Errors
/// It cannot be looked at, or is a link that leads nowhere.
pub fn is_there(path: &Path) -> Result<bool, ScriptError> {
    Ok(look(path)?.is_some())
}

/// True if there is a folder, or a link to one. A file is none, and no error; a link to a file is one.
///
/// # Errors
/// It cannot be looked at, or is a link that leads to no folder.
pub fn is_folder(path: &Path) -> Result<bool, ScriptError> {
    let Some(about) = look(path)? else { return Ok(false) };
    let is_link = || symlink_metadata(path).is_ok_and(|link| link.is_symlink());
    if !about.is_dir() && is_link() {
        return Err(unusable(path, &"the link leads to no folder"));
    }
    Ok(about.is_dir())
}

fn look(path: &Path) -> Result<Option<Metadata>, ScriptError> {
    match symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, &error)),
        Ok(about) if !about.is_symlink() => Ok(Some(about)),
        Ok(_) => metadata(path).map(Some).map_err(|error| unusable(path, &follow(error))),
    }
}

fn follow(error: io::Error) -> io::Error {
    let leads_nowhere = error.kind() == ErrorKind::NotFound;
    if leads_nowhere { io::Error::other("the link leads nowhere") } else { error }
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> ScriptError {
    let location = Location { file: path.display().to_string(), ..Location::default() };
    ScriptError::at(location, format!("cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_name_that_does_not_exist_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (link, target) in
            [("to-folder", "folder"), ("to-file", "file"), ("dangling", "nowhere"), ("loop", "loop")]
        {
            symlink(target, at(link)).unwrap();
        }
        let show = |found: Result<bool, ScriptError>| match found {
            Ok(found) => found.to_string(),
            Err(error) => error.message.to_lowercase(),
        };
        for (name, there, folder) in [
            ("folder", "true", "true"),
            ("file", "true", "false"),
            ("absent", "false", "false"),
            ("absent/deeper", "false", "false"),
            ("to-folder", "true", "true"),
            ("to-file", "true", "the link leads to no folder"),
            ("dangling", "the link leads nowhere", "the link leads nowhere"),
            ("loop", "symbolic links", "symbolic links"),
            ("loop/deeper", "symbolic links", "symbolic links"),
            ("file/deeper", "not a directory", "not a directory"),
        ] {
            let (is_there, is_folder) = (show(is_there(&at(name))), show(is_folder(&at(name))));
            assert!(
                is_there.contains(there) && is_folder.contains(folder),
                "{name}: {is_there}, {is_folder}"
            );
        }
    }
}
