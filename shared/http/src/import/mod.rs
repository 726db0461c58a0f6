//! The import of many resources from CSV. A line that is not valid is refused by its number; the others are imported.
//!
//! Memory is bounded by the size of the body: lines are read and imported in batches, and the report lists only the
//! first lines of each kind. Next: `lines.rs` for what a line is.

mod lines;
mod report;

use axum::{
    Json,
    extract::{RawQuery, Request, State},
};
use bespeak::{
    app::{IMPORT_BATCH, Import},
    engine::{Define, Limits},
    store::CommitMode,
};

use crate::{
    body,
    problem::{Problem, problems},
    query,
    state::Api,
};
pub use lines::{ImportLine, ImportLines};
use report::ImportReport;

/// Other tasks run after this many lines at the latest.
const LINES_PER_TURN: u64 = 1_000;

problems!(
    ImportProblems: BodyTooLarge("Send the lines in several requests."),
    InvalidValue,
    Unavailable("Some lines may have been imported. Importing them again changes nothing.")
);

/// Create and change many resources.
///
/// The body is CSV with the columns `resource_id,total_stock`. A header line with these names is optional, and lines
/// that start with `#` are comments. A line ends with LF, CR LF or CR; spaces and tabs around a field are ignored, and
/// a field may stand in quotes. A line that is not valid, or whose resource is on an earlier line, is refused by its
/// number, and the others are imported: `created`, `changed`, `unchanged`, `refused` and `skipped` add up to the number
/// of lines.
#[utoipa::path(post, path = "/api/v1/resources/import", tag = "resources",
    params(("dryRun" = Option<bool>, Query, description = "Report what the import would change, and write nothing")),
    request_body(content = String, content_type = "text/csv"),
    responses((status = 200, description = "What the import changed, or would change.", body = ImportReport),
        ImportProblems))]
pub(crate) async fn import(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<ImportReport>, Problem> {
    let mode = mode(query.as_deref())?;
    body::must_be_csv(&request)?;
    // The place is taken before the body is read, so that waiting bodies do not fill the memory.
    let import = api.app.begin_import(mode)?;
    let csv = body::read(request, api.http.import_bytes_max, &api).await?;
    Ok(Json(run(&import, &csv, api.app.limits()).await?))
}

/// Imports the lines of a body, a batch in one transaction each.
async fn run(import: &Import<'_>, csv: &[u8], limits: &Limits) -> Result<ImportReport, Problem> {
    let mut report = ImportReport::new(import.mode());
    let mut batch: Vec<(u64, Define)> = Vec::new();
    for (number, line) in ImportLines::of(csv, limits) {
        match line {
            ImportLine::Nothing => report.skip(),
            ImportLine::Total(define) => batch.push((number, define)),
            ImportLine::Wrong { resource_id, problem } => report.refuse(number, resource_id, problem),
        }
        if batch.len() == IMPORT_BATCH {
            define(import, &mut batch, &mut report).await?;
        }
        if number % LINES_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    define(import, &mut batch, &mut report).await?;
    Ok(report.finished())
}

/// Imports the batch, and empties it.
async fn define(
    import: &Import<'_>,
    batch: &mut Vec<(u64, Define)>,
    report: &mut ImportReport,
) -> Result<(), Problem> {
    if batch.is_empty() {
        return Ok(());
    }
    let defines = batch.iter().map(|(_, define)| define.clone()).collect();
    let results = import.define(defines).await?;
    for ((number, define), result) in batch.drain(..).zip(results) {
        report.add(number, &define, result);
    }
    Ok(())
}

fn mode(query: Option<&str>) -> Result<CommitMode, Problem> {
    let mut mode = CommitMode::Commit;
    for (name, value) in query::parameters(query)? {
        mode = match (&*name, &*value) {
            ("dryRun", "true") => CommitMode::DryRun,
            ("dryRun", "false") => CommitMode::Commit,
            ("dryRun", value) => {
                return Err(Problem::invalid(
                    "dryRun",
                    format!("dryRun must be true or false, got {value:?}"),
                ));
            }
            (other, _) => return Err(query::unknown(other, "dryRun")),
        };
    }
    Ok(mode)
}
