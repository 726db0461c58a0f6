//! The port for operating a database: which versions of the program may run on its schema, its clock, and the result of
//! the last audit.
//!
//! The contract of neighbouring versions stands in `docs/compatibility.md`: a newer schema is used as it is, unless its
//! floor is above this version.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{StoreError, Version};
use crate::engine::Timestamp;

/// The result of the last audit that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// When it ended, by the clock of the database.
    pub at: Timestamp,
    /// The number of findings.
    pub findings: u64,
    /// The time of the database's clock when this was read.
    pub now: Timestamp,
}

/// What operating a database needs.
#[async_trait]
pub trait OperationsStore: Send + Sync + 'static {
    /// The oldest version of the program that may run on this schema, as text; `None` if the schema is older than this
    /// rule, or this account may not read it. Cancel-safe.
    async fn schema_floor(&self) -> Result<Option<String>, StoreError>;

    /// Connects, and checks that this version may run on the schema. Cancel-safe.
    ///
    /// # Errors
    /// The database cannot be used, or [`StoreError::SchemaTooNew`].
    async fn check_schema(&self) -> Result<(), StoreError> {
        check_floor(self.schema_floor().await?.as_deref(), Version::current())
    }

    /// The time of the clock by which holds end (I6). Cancel-safe.
    async fn now(&self) -> Result<Timestamp, StoreError>;

    /// Stores the number of findings of an audit, with the present time.
    async fn record_verification(&self, findings: u64) -> Result<(), StoreError>;

    /// The result of the last audit that was recorded. Cancel-safe.
    async fn last_verification(&self) -> Result<Option<Verification>, StoreError>;

    /// The work that a database in this process needs while it serves; runs until `stop` is cancelled. It only saves
    /// time: without it, commits do the same work. By default there is none.
    async fn upkeep(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }
}

/// Checks the floor of a schema against a version. A floor that is not a version is one that this program is too old to
/// understand.
pub(super) fn check_floor(floor: Option<&str>, version: Version) -> Result<(), StoreError> {
    match floor {
        Some(floor) if Version::parse(floor).is_none_or(|floor| floor > version) => {
            Err(StoreError::SchemaTooNew { floor: floor.to_owned(), version })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_above_the_version_is_refused() {
        let version = Version::parse("0.3.1").unwrap();
        for allowed in [None, Some("0.1.0"), Some("0.3.1")] {
            assert!(check_floor(allowed, version).is_ok(), "{allowed:?}");
        }
        for refused in ["0.3.2", "1.0.0", "one day"] {
            let error = check_floor(Some(refused), version).unwrap_err().to_string();
            assert!(error.contains(refused) && error.contains("0.3.1"), "{error}");
        }
    }
}
