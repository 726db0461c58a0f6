//! The report of an import: counts of all lines, and the first lines of each kind in full.

use bespeak::{
    app::Defined,
    engine::{Define, Refusal, ResourceChange},
    store::CommitMode,
};
use serde::Serialize;
use utoipa::ToSchema;

/// The most refused lines that a report lists, and likewise of created and changed lines.
const LISTED_MAX: usize = 1_000;

/// What an import changed, or would change. `created`, `changed`, `unchanged`, `refused` and `skipped` add up to the
/// number of lines.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportReport {
    /// Whether this was a dry run, which writes nothing.
    dry_run: bool,
    /// The number of new resources.
    created: u64,
    /// The number of resources whose total changed.
    changed: u64,
    /// The number of resources that had this total before.
    unchanged: u64,
    /// The number of lines that were refused.
    refused: u64,
    /// The number of comments and empty lines, and the header if there is one.
    skipped: u64,
    /// The first 1000 lines that were refused, and the first 1000 of created and changed resources, in order.
    lines: Vec<ListedLine>,
    /// The number of lines that were refused, created or changed, but are not in `lines`.
    omitted: u64,
    /// The lowest refused lines so far. Like `changes`, it can be longer than the report before that is finished.
    #[serde(skip)]
    refusals: Vec<ListedLine>,
    #[serde(skip)]
    changes: Vec<ListedLine>,
}

/// The result of one line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ImportLine)]
pub(crate) struct ListedLine {
    /// The number of the line in the body, from 1, counting comments and empty lines.
    #[schema(minimum = 1)]
    line: u64,
    /// What became of the line.
    result: LineResult,
    /// The resource, if the line names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    /// The total that the line sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_stock: Option<u64>,
    /// The total before the import.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_total_stock: Option<u64>,
    /// Why the line was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// What became of one line of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ImportResult)]
pub(crate) enum LineResult {
    Created,
    Changed,
    Refused,
}

impl ImportReport {
    pub(super) fn new(mode: CommitMode) -> Self {
        Self { dry_run: mode == CommitMode::DryRun, ..Self::default() }
    }

    /// Counts a line that says nothing.
    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Adds a line that was refused.
    pub(super) fn refuse(&mut self, line: u64, resource_id: Option<String>, problem: String) {
        self.refused += 1;
        let line = ListedLine {
            line,
            result: LineResult::Refused,
            resource_id,
            total_stock: None,
            previous_total_stock: None,
            problem: Some(problem),
        };
        list(&mut self.refusals, line);
    }

    /// Adds a line that the store has handled.
    pub(super) fn add(&mut self, line: u64, define: &Define, result: Result<Defined, Refusal>) {
        let (id, total) = (&define.resource_id, define.total);
        let (result, previous_total_stock) = match result {
            Ok(Defined { change: ResourceChange::Unchanged, .. }) => {
                self.unchanged += 1;
                return;
            }
            Ok(Defined { change: ResourceChange::Created, .. }) => {
                self.created += 1;
                (LineResult::Created, None)
            }
            Ok(Defined { change: ResourceChange::Changed { previous_total }, .. }) => {
                self.changed += 1;
                (LineResult::Changed, Some(previous_total))
            }
            Err(Refusal::StockInUse { in_use, .. }) => {
                let problem = format!(
                    "total_stock must be at least {in_use}, which is the number of units held or committed; got {total}"
                );
                return self.refuse(line, Some(id.to_string()), problem);
            }
            Err(refusal) => return self.refuse(line, Some(id.to_string()), refusal.slug().to_owned()),
        };
        let line = ListedLine {
            line,
            result,
            resource_id: Some(id.to_string()),
            total_stock: Some(total),
            previous_total_stock,
            problem: None,
        };
        list(&mut self.changes, line);
    }

    /// The report with its lines in order.
    pub(super) fn finished(mut self) -> Self {
        for kind in [&mut self.refusals, &mut self.changes] {
            cut(kind);
            self.lines.append(kind);
        }
        self.lines.sort_by_key(|line| line.line);
        self.omitted = self.refused + self.created + self.changed - self.lines.len() as u64;
        self
    }
}

/// Adds a line to those of its kind. A batch is handled later than the refused lines in it, so lines do not come quite
/// in order, and more of them are kept than are listed.
fn list(lines: &mut Vec<ListedLine>, line: ListedLine) {
    lines.push(line);
    if lines.len() == 2 * LISTED_MAX {
        cut(lines);
    }
}

/// Keeps the lowest lines.
fn cut(lines: &mut Vec<ListedLine>) {
    lines.sort_by_key(|line| line.line);
    lines.truncate(LISTED_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_lines_are_listed_and_the_rest_is_counted() {
        let mut report = ImportReport::new(CommitMode::Commit);
        for line in (1..=5_000).rev() {
            report.refuse(line, None, "wrong".to_owned());
        }
        report.skip();
        let report = report.finished();
        assert_eq!((report.refused, report.omitted, report.skipped), (5_000, 4_000, 1));
        let listed: Vec<u64> = report.lines.iter().map(|line| line.line).collect();
        assert_eq!(listed, (1..=1_000).collect::<Vec<_>>());
    }
}
