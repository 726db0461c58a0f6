//! A temporary folder, for the database of a simulation that starts its own server.
//!
//! Made by hand, because the crate `tempfile` would enable a feature of a crate that the command line depends on, and
//! `cargo bespeak simulate` would then build `clap` and `bespeak-cli` a second time.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// A folder that only this user can read. It is removed when this value is dropped.
pub(super) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Creates a folder with a random name in the system's folder for temporary files.
    pub(super) fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("bespeak-simulate-{}", Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // A folder that cannot be removed stays for the system's own cleaning.
        let _ = fs::remove_dir_all(&self.0);
    }
}
