//! The import of many resources, a batch in one transaction each.

use super::{
    App,
    reply::{Defined, Rejected, defined},
};
use crate::{
    dispatch::{Dispatch, DispatchError, ImportPlace},
    engine::{Command, Define, Refusal},
    store::CommitMode,
    supervision::Supervisor,
};

/// The most definitions in one transaction of an import. Other commands wait for it no longer than for a full lane.
pub const IMPORT_BATCH: usize = 500;

/// An import that has its place among those that may run at one time. Dropping it frees the place.
pub struct Import<'a> {
    dispatch: &'a Dispatch,
    supervisor: &'a Supervisor,
    place: ImportPlace,
    mode: CommitMode,
}

impl App {
    /// Takes a place for an import. Take it before reading what to import, so that waiting imports need no memory.
    ///
    /// # Errors
    /// [`DispatchError::Full`] if all places are taken.
    pub fn begin_import(&self, mode: CommitMode) -> Result<Import<'_>, DispatchError> {
        Ok(Import {
            dispatch: &self.dispatch,
            supervisor: &self.supervisor,
            place: self.dispatch.import_place()?,
            mode,
        })
    }
}

impl Import<'_> {
    /// Whether it writes.
    pub fn mode(&self) -> CommitMode {
        self.mode
    }

    /// Creates and changes resources, at most [`IMPORT_BATCH`], in one transaction, and returns the result of each.
    /// With [`CommitMode::DryRun`] nothing is written. If the caller goes away, the transaction
    /// is finished and keeps the place until then.
    ///
    /// # Errors
    /// The store failed, or the process stops; what was imported before stays.
    pub async fn define(&self, defines: Vec<Define>) -> Result<Vec<Result<Defined, Refusal>>, DispatchError> {
        debug_assert!(defines.len() <= IMPORT_BATCH, "{}", defines.len());
        if self.supervisor.stopping().is_cancelled() {
            return Err(DispatchError::Stopping);
        }
        let commands = defines.into_iter().map(Command::Define).collect();
        let outcomes = self.dispatch.submit_batch(&self.place, commands, self.mode).await?;
        outcomes
            .into_iter()
            .map(|outcome| match defined(Ok(outcome)) {
                Ok(defined) => Ok(Ok(defined)),
                Err(Rejected::Refused(refusal)) => Ok(Err(refusal)),
                Err(Rejected::Failed(error)) => Err(error),
            })
            .collect()
    }
}
