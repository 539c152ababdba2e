//! Which file of a folder a configuration begins with. Looks, and reads nothing.

use std::path::{Path, PathBuf};

/// What it is called.
const SCRIPT: &str = "vsmtp.vsl";
/// What vSL 1.x called it.
const TABLE: &str = "vsmtp.toml";

/// The main file of a folder; that of vSL 1.x only where there is no other.
pub fn main_file(folder: &Path) -> PathBuf {
    let (script, table) = (folder.join(SCRIPT), folder.join(TABLE));
    if !script.exists() && table.exists() { table } else { script }
}
