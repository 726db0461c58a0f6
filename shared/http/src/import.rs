//! The import of many resources from CSV. A line that is not valid is refused by its number; the others are imported.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{RawQuery, State},
};
use bespeak::{
    app::Defined,
    engine::{Define, Limits, Refusal, ResourceChange, ResourceId},
    store::CommitMode,
};
use csv::{ByteRecord, ReaderBuilder, Trim};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    body::CsvBody,
    problem::{Problem, problems},
    query,
    state::Api,
};

const HEADER: [&[u8]; 2] = [b"resource_id", b"total_stock"];

/// What an import changed, or would change.
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
    /// Every line except those of unchanged resources, in order.
    lines: Vec<ImportLine>,
}

/// The result of one line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportLine {
    /// The number of the line in the body, from 1, counting comments and empty lines.
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
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ImportResult)]
enum LineResult {
    Created,
    Changed,
    Refused,
}

/// A valid line.
struct Line {
    number: u64,
    define: Define,
}

problems!(
    ImportProblems: BodyTooLarge("Send the lines in several requests."),
    InvalidValue,
    Unavailable("Some lines may have been imported. Importing them again changes nothing.")
);

/// Create and change many resources.
///
/// The body is CSV with the columns `resource_id,total_stock`. A header line with these names is optional, and lines
/// that start with `#` are comments. A line that is not valid is refused by its number, and the others are imported.
#[utoipa::path(post, path = "/api/v1/resources/import", tag = "resources",
    params(("dryRun" = Option<bool>, Query, description = "Report what the import would change, and write nothing")),
    request_body(content = String, content_type = "text/csv"),
    responses((status = 200, body = ImportReport), ImportProblems))]
pub(crate) async fn import(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    CsvBody(csv): CsvBody,
) -> Result<Json<ImportReport>, Problem> {
    let mode = mode(query.as_deref())?;
    let mut report = ImportReport { dry_run: mode == CommitMode::DryRun, ..ImportReport::default() };
    let lines = parse(&csv, api.app.limits(), &mut report);
    let (numbers, defines): (Vec<_>, Vec<_>) =
        lines.into_iter().map(|line| (line.number, line.define)).unzip();
    let requested: Vec<_> = defines.iter().map(|define| (define.resource_id.clone(), define.total)).collect();
    let results = api.app.import(defines, mode).await?;
    for ((number, (id, total)), result) in numbers.into_iter().zip(requested).zip(results) {
        report.add(number, &id, total, result);
    }
    report.lines.sort_by_key(|line| line.line);
    Ok(Json(report))
}

fn mode(query: Option<&str>) -> Result<CommitMode, Problem> {
    let mut mode = CommitMode::Commit;
    for (name, value) in query::parameters(query) {
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

/// Parses the valid lines, and refuses the others in the report.
///
/// Each line is parsed by itself, not as a part of one CSV document. Ids and numbers contain no line breaks, so this
/// loses nothing, an unbalanced quote affects only its own line, and each line keeps its number.
fn parse(csv: &[u8], limits: &Limits, report: &mut ImportReport) -> Vec<Line> {
    let csv = csv.strip_prefix(b"\xef\xbb\xbf").unwrap_or(csv);
    let mut lines = Vec::new();
    let mut seen: HashMap<ResourceId, u64> = HashMap::new();
    let mut first = true;
    for (number, text) in (1..).zip(csv.split(|byte| *byte == b'\n')) {
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        let record = fields(text);
        if std::mem::take(&mut first) && record.as_ref().is_ok_and(|record| record.iter().eq(HEADER)) {
            continue;
        }
        match record.map_err(|problem| (None, problem)).and_then(|record| parse_line(&record, limits)) {
            Ok(define) => {
                if let Some(earlier) = seen.insert(define.resource_id.clone(), number) {
                    let problem = format!("{} is on line {earlier} already", define.resource_id);
                    report.refuse(number, Some(define.resource_id.to_string()), problem);
                } else {
                    lines.push(Line { number, define });
                }
            }
            Err((id, problem)) => report.refuse(number, id, problem),
        }
    }
    lines
}

/// Splits one line into its fields.
fn fields(line: &[u8]) -> Result<ByteRecord, String> {
    let mut reader =
        ReaderBuilder::new().has_headers(false).buffer_capacity(line.len()).trim(Trim::All).from_reader(line);
    let mut record = ByteRecord::new();
    match reader.read_byte_record(&mut record) {
        Ok(_) if line.iter().fold(false, |open, byte| open ^ (*byte == b'"')) => {
            Err("the line has an opening quote without a closing quote".to_owned())
        }
        Ok(_) => Ok(record),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_line(record: &ByteRecord, limits: &Limits) -> Result<Define, (Option<String>, String)> {
    let [id, total] = [record.get(0), record.get(1)];
    let (Some(id), Some(total), 2) = (id, total, record.len()) else {
        let fields = if record.len() == 1 { "field" } else { "fields" };
        return Err((
            None,
            format!("the line must be resource_id,total_stock, got {} {fields}", record.len()),
        ));
    };
    let id = std::str::from_utf8(id).map_err(|_| (None, "resource_id must be UTF-8".to_owned()))?;
    let wrong = |problem: String| (Some(id.to_owned()), problem);
    let resource_id = ResourceId::new("resource_id", id).map_err(|violation| wrong(violation.to_string()))?;
    let total = std::str::from_utf8(total)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| wrong(format!("total_stock must be a whole number from 0 to {}", limits.total_max)))?;
    let total = limits.total("total_stock", total).map_err(|violation| wrong(violation.to_string()))?;
    Ok(Define { resource_id, total, fulfilment: None })
}

impl ImportReport {
    /// Adds a line that was refused.
    fn refuse(&mut self, line: u64, resource_id: Option<String>, problem: String) {
        self.refused += 1;
        self.lines.push(ImportLine {
            line,
            result: LineResult::Refused,
            resource_id,
            total_stock: None,
            previous_total_stock: None,
            problem: Some(problem),
        });
    }

    /// Adds a line that the store has handled.
    fn add(&mut self, line: u64, id: &ResourceId, total: u64, result: Result<Defined, Refusal>) {
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
        self.lines.push(ImportLine {
            line,
            result,
            resource_id: Some(id.to_string()),
            total_stock: Some(total),
            previous_total_stock,
            problem: None,
        });
    }
}
