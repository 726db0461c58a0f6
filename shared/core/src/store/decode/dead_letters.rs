//! Rows of dead letters.

use super::{
    Columns,
    columns::{corrupt, small, timestamp},
};
use crate::{
    envelope::{Origin, Record},
    store::{DeadLetter, DeadLetterId, StoreError, StoredDeadLetter},
};

/// Decodes `id, source, part, position, event_key, headers, value, reason, attempts, created_at`.
pub(in crate::store) fn dead_letter(row: &impl Columns) -> Result<StoredDeadLetter, StoreError> {
    let number = row.integer(0)?;
    let headers: Vec<(String, String)> = serde_json::from_str(row.text(5)?)
        .map_err(|error| corrupt(format!("the headers of dead letter {number}: {error}")))?;
    let record = Record {
        key: row.optional_bytes(4)?.map(<[u8]>::to_vec),
        headers: headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
        value: row.optional_bytes(6)?.map(<[u8]>::to_vec),
        origin: Origin { topic: row.text(1)?.into(), partition: small(row, 2)?, offset: row.integer(3)? },
    };
    Ok(StoredDeadLetter {
        id: DeadLetterId { partition: 0, offset: number },
        letter: DeadLetter { record, reason: row.text(7)?.to_owned(), attempts: small(row, 8)? },
        created_at: timestamp(row, 9)?,
    })
}

/// The headers of a record as JSON text, as they are stored.
pub(in crate::store) fn headers_text(record: &Record) -> String {
    let headers = record.headers.iter();
    let headers: Vec<_> = headers.map(|(name, value)| (name, String::from_utf8_lossy(value))).collect();
    serde_json::json!(headers).to_string()
}

/// Decodes `part, position`.
pub(in crate::store) fn dead_letter_id(row: &impl Columns) -> Result<DeadLetterId, StoreError> {
    Ok(DeadLetterId { partition: small(row, 0)?, offset: row.integer(1)? })
}
