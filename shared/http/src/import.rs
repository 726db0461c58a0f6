//! Import of many resources from CSV. A line that is wrong is refused by its number; the others are imported.

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
    problem::{Problem, ProblemBody},
    router::Api,
};

const HEADER: [&[u8]; 2] = [b"resource_id", b"total_stock"];

/// What an import did, or would do.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportReport {
    /// Whether nothing was written.
    dry_run: bool,
    /// New resources.
    created: u64,
    /// Resources with another total than before.
    changed: u64,
    /// Resources that were so already.
    unchanged: u64,
    /// Lines that were refused.
    refused: u64,
    /// Every line but the unchanged, in order.
    lines: Vec<ImportLine>,
}

/// What became of a line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportLine {
    /// Its number in the body, from 1; comments and empty lines count.
    line: u64,
    /// `created`, `changed` or `refused`.
    result: &'static str,
    /// The resource, where the line names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    /// The total that the line gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_stock: Option<u64>,
    /// The total before.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_total_stock: Option<u64>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// A line that is fit to be imported.
struct Line {
    number: u64,
    define: Define,
}

/// Create and change many resources.
///
/// CSV with the columns `resource_id,total_stock`, that header being optional; lines that start with `#` are comments.
/// A line that is wrong is refused, by its number, and the others are imported.
#[utoipa::path(post, path = "/api/v1/resources/import", tag = "resources",
    params(("dryRun" = Option<bool>, Query, description = "Say what would happen, and write nothing")),
    request_body(content = String, content_type = "text/csv"),
    responses(
        (status = 200, body = ImportReport),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "body-too-large: send it in parts"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "invalid-value"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "unavailable; parts may have been imported, and importing them again changes nothing"),
    ))]
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
    let asked: Vec<_> = defines.iter().map(|define| (define.resource_id.clone(), define.total)).collect();
    let results = api.app.import(defines, mode).await?;
    for ((number, (id, total)), result) in numbers.into_iter().zip(asked).zip(results) {
        report.add(number, &id, total, result);
    }
    report.lines.sort_by_key(|line| line.line);
    Ok(Json(report))
}

fn mode(query: Option<&str>) -> Result<CommitMode, Problem> {
    let mut mode = CommitMode::Commit;
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        mode = match (&*name, &*value) {
            ("dryRun", "true") => CommitMode::DryRun,
            ("dryRun", "false") => CommitMode::Commit,
            ("dryRun", _) => return Err(Problem::invalid("dryRun", "dryRun must be true or false")),
            (other, _) => {
                return Err(Problem::invalid(other, format!("unknown parameter {other:?}; known is dryRun")));
            }
        };
    }
    Ok(mode)
}

/// Parses line by line, not as one CSV document: an id or a number has no line break in it, and so one unbalanced quote
/// spoils one line, and each line keeps its number.
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
                    let problem = format!("{} stands on line {earlier} already", define.resource_id);
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

/// The fields of one line.
fn fields(line: &[u8]) -> Result<ByteRecord, String> {
    let mut reader =
        ReaderBuilder::new().has_headers(false).buffer_capacity(line.len()).trim(Trim::All).from_reader(line);
    let mut record = ByteRecord::new();
    match reader.read_byte_record(&mut record) {
        Ok(_) if line.iter().fold(false, |open, byte| open ^ (*byte == b'"')) => {
            Err("has a quote without its counterpart".to_owned())
        }
        Ok(_) => Ok(record),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_line(record: &ByteRecord, limits: &Limits) -> Result<Define, (Option<String>, String)> {
    let [id, total] = [record.get(0), record.get(1)];
    let (Some(id), Some(total), 2) = (id, total, record.len()) else {
        return Err((None, format!("must be resource_id,total_stock; has {} fields", record.len())));
    };
    let id = std::str::from_utf8(id).map_err(|_| (None, "resource_id is not UTF-8".to_owned()))?;
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
    fn refuse(&mut self, line: u64, resource_id: Option<String>, problem: String) {
        self.refused += 1;
        self.lines.push(ImportLine {
            line,
            result: "refused",
            resource_id,
            total_stock: None,
            previous_total_stock: None,
            problem: Some(problem),
        });
    }

    fn add(&mut self, line: u64, id: &ResourceId, total: u64, result: Result<Defined, Refusal>) {
        let (result, previous_total_stock) = match result {
            Ok(Defined { change: ResourceChange::Unchanged, .. }) => {
                self.unchanged += 1;
                return;
            }
            Ok(Defined { change: ResourceChange::Created, .. }) => {
                self.created += 1;
                ("created", None)
            }
            Ok(Defined { change: ResourceChange::Changed { previous_total }, .. }) => {
                self.changed += 1;
                ("changed", Some(previous_total))
            }
            Err(Refusal::StockInUse { in_use, .. }) => {
                let problem = format!("{in_use} are held or committed; the total cannot be {total}");
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
