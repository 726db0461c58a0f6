//! Copies of the file while it is used, made by `VACUUM INTO`.
//!
//! A copy is one snapshot: everything that was committed before it began, and nothing that came later. It is complete
//! in itself, without a WAL. Writers go on while it is made; the WAL grows meanwhile, because no page that the snapshot
//! needs may be overwritten.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    str::FromStr,
};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use super::{StoreError, applied, audit, connect::pool_options, error::failed};
use crate::{
    engine::ReportedStock,
    store::{Audit, pool::Pool},
};

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The size of the copy.
    pub bytes: u64,
    /// The audit of the copy. Findings are violations that the original has too. `None` if a migration is missing in
    /// the file: its books are those of an older version, which this one cannot audit.
    pub audit: Option<Audit>,
}

/// Creates a file that only its owner may read, because the books contain secrets and personal data. SQLite gives the
/// WAL the same rights. An existing file is left as it is.
pub(super) fn create_private(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

/// Copies the file of a URL to `to`, which must not exist, and checks the copy. The work in progress has the name of
/// the copy with `.partial` at its end, so a file called `to` is always complete. Other processes may serve meanwhile.
/// Cancel-safe: the work in progress is left behind.
///
/// # Errors
/// The file cannot be read, the copy cannot be written or exists already, or the copy is damaged.
pub async fn back_up(url: &str, to: &Path) -> Result<Backup, StoreError> {
    let from = SqliteConnectOptions::from_str(url).map_err(failed)?.create_if_missing(false);
    let mut from = from.connect().await.map_err(failed)?;
    let copied = copy(&mut from, to).await;
    // The copy was made, or was not, whatever closing the connection says.
    let _ = from.close().await;
    copied
}

/// Copies the database of a connection, as [`back_up`] does.
pub(super) async fn copy(from: &mut SqliteConnection, to: &Path) -> Result<Backup, StoreError> {
    let exists =
        || not_written(to, io::Error::new(io::ErrorKind::AlreadyExists, "a file of this name exists"));
    if to.try_exists().map_err(|error| not_written(to, error))? {
        return Err(exists());
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let file = create_private(&partial).map_err(|error| not_written(&partial, error))?;
    let copied = copy_and_check(from, &partial, &file).await;
    let published = copied.and_then(|backup| {
        // A link instead of a renaming, because it fails if the name was taken meanwhile.
        match fs::hard_link(&partial, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
            linked => linked.map(|()| backup).map_err(|error| not_written(to, error)),
        }
    });
    // Whether or not the copy was published, the other name of it is not needed any more.
    let _ = fs::remove_file(&partial);
    sync_folder(to).map_err(|error| not_written(to, error))?;
    published
}

async fn copy_and_check(from: &mut SqliteConnection, to: &Path, file: &File) -> Result<Backup, StoreError> {
    let name = to.to_str().ok_or_else(|| not_written(to, io::Error::other("its name is not UTF-8")))?;
    sqlx::query("VACUUM INTO ?1").bind(name).execute(from).await.map_err(failed)?;
    file.sync_all().map_err(|error| not_written(to, error))?;
    let copy = SqliteConnectOptions::new()
        .filename(to)
        .create_if_missing(false)
        .read_only(true)
        .synchronous(SqliteSynchronous::Off);
    let copy = pool_options(1).connect_with(copy).await.map_err(failed)?;
    let checked = check(&Pool::new("readers", copy.clone(), failed)).await;
    copy.close().await;
    let bytes = file.metadata().map_err(|error| not_written(to, error))?.len();
    Ok(Backup { bytes, audit: checked? })
}

/// Reads every page of a copy, and audits it if its schema is that of this version.
async fn check(copy: &Pool<sqlx::Sqlite>) -> Result<Option<Audit>, StoreError> {
    let rows = sqlx::query("PRAGMA integrity_check(10)").fetch_all(&mut *copy.acquire().await?).await;
    let results: Vec<String> =
        rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect()).map_err(failed)?;
    if results != ["ok"] {
        return Err(StoreError::Corrupt { what: format!("the copy is damaged: {}", results.join("; ")) });
    }
    if applied::is_older(&mut *copy.acquire().await?).await? {
        return Ok(None);
    }
    // Which movements of stock are events is a setting, which a copy does not know, so the wider choice is accepted
    // here.
    audit::audit(copy, ReportedStock::EveryGiveBack).await.map(Some)
}

/// Makes a new name in a folder durable.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn not_written(file: &Path, source: io::Error) -> StoreError {
    StoreError::Copy { file: file.to_owned(), source }
}

/// What the automatic copies of a file have between its name and the time.
const AUTOMATIC: &str = ".before-migration-";

/// Copies a file beside itself before a migration, and removes the oldest such copies but `kept`.
pub(super) async fn before_migration(
    from: &mut SqliteConnection,
    file: &Path,
    kept: usize,
) -> Result<PathBuf, StoreError> {
    let now = crate::engine::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    let mut to = file.as_os_str().to_owned();
    // Two processes may begin at the same moment.
    to.push(format!("{AUTOMATIC}{now}-{}", std::process::id()));
    let to = PathBuf::from(to);
    copy(from, &to).await?;
    // What cannot be listed or removed is not worth to refuse the migration for.
    for old in automatic_copies(file).unwrap_or_default().into_iter().rev().skip(kept) {
        let _ = fs::remove_file(old);
    }
    Ok(to)
}

/// The automatic copies of a file, the oldest first: their names contain the time.
fn automatic_copies(file: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let begins = format!("{}{AUTOMATIC}", file.file_name().unwrap_or_default().to_string_lossy());
    let mut copies = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&begins) && !name.ends_with(".partial") {
            copies.push(entry.path());
        }
    }
    copies.sort();
    Ok(copies)
}
