//! Access to the columns of a row, and the types that every table uses: ids, times, counts.

use uuid::Uuid;

use crate::{
    engine::{Timestamp, Token},
    store::StoreError,
    trace::TraceContext,
};

/// The cells of a row, as a dialect's driver gives them. Columns are counted from 0.
pub(in crate::store) trait Columns {
    /// A whole number.
    fn integer(&self, column: usize) -> Result<i64, StoreError>;

    /// A whole number or NULL.
    fn optional_integer(&self, column: usize) -> Result<Option<i64>, StoreError>;

    /// Text or NULL.
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError>;

    /// Bytes or NULL.
    fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError>;

    /// Bytes.
    fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        self.optional_bytes(column)?.ok_or_else(|| corrupt(format!("NULL in column {column}")))
    }

    /// Text.
    fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.optional_text(column)?.ok_or_else(|| corrupt(format!("NULL in column {column}")))
    }
}

/// The token in column 0.
pub(in crate::store) fn token(row: &impl Columns) -> Result<Token, StoreError> {
    uuid(row, 0).map(Token::from_uuid)
}

/// A UUID.
pub(in crate::store) fn uuid(row: &impl Columns, column: usize) -> Result<Uuid, StoreError> {
    Uuid::from_slice(row.bytes(column)?)
        .map_err(|error| corrupt(format!("an id in column {column}: {error}")))
}

/// A `traceparent`; none where there is none, or where this build cannot read it: nothing rests on it.
pub(in crate::store) fn trace(row: &impl Columns, column: usize) -> Result<Option<TraceContext>, StoreError> {
    Ok(row.optional_text(column)?.and_then(TraceContext::parse))
}

/// A whole number that fits a small type.
pub(in crate::store) fn small<T: TryFrom<i64>>(row: &impl Columns, column: usize) -> Result<T, StoreError> {
    let value = row.integer(column)?;
    T::try_from(value).map_err(|_| corrupt(format!("a number out of range in column {column}: {value}")))
}

pub(in crate::store) fn unsigned(row: &impl Columns, column: usize) -> Result<u64, StoreError> {
    let value = row.integer(column)?;
    u64::try_from(value).map_err(|_| corrupt(format!("a negative number in column {column}: {value}")))
}

pub(in crate::store) fn timestamp(row: &impl Columns, column: usize) -> Result<Timestamp, StoreError> {
    micros(row.integer(column)?)
}

/// A time or NULL.
pub(in crate::store) fn optional_timestamp(
    row: &impl Columns,
    column: usize,
) -> Result<Option<Timestamp>, StoreError> {
    row.optional_integer(column)?.map(micros).transpose()
}

pub(in crate::store) fn micros(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|error| corrupt(format!("a time: {error}")))
}

pub(in crate::store) fn corrupt(what: String) -> StoreError {
    StoreError::Corrupt { what }
}

/// A column that is not there, or of another type than this version writes.
pub(in crate::store) fn unreadable(error: sqlx::Error) -> StoreError {
    corrupt(format!("a row does not have this version's shape: {error}"))
}
