//! Access to the columns of a row, and the types that every table uses: ids, times, counts.

use uuid::Uuid;

use crate::{
    engine::{Timestamp, Token},
    store::StoreError,
    trace::TraceContext,
};

/// A row of a driver. Columns are counted from 0.
pub(in crate::store) trait Columns {
    /// Reads a whole number.
    fn integer(&self, column: usize) -> Result<i64, StoreError>;

    /// Reads a whole number or NULL.
    fn optional_integer(&self, column: usize) -> Result<Option<i64>, StoreError>;

    /// Reads text or NULL.
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError>;

    /// Reads bytes or NULL.
    fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError>;

    /// Reads bytes that must not be NULL.
    fn bytes(&self, column: usize) -> Result<&[u8], StoreError> {
        self.optional_bytes(column)?.ok_or_else(|| corrupt(format!("NULL in column {column}")))
    }

    /// Reads text that must not be NULL.
    fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.optional_text(column)?.ok_or_else(|| corrupt(format!("NULL in column {column}")))
    }
}

/// Decodes the token in column 0.
pub(in crate::store) fn token(row: &impl Columns) -> Result<Token, StoreError> {
    uuid(row, 0).map(Token::from_uuid)
}

/// Decodes the tokens in column 0. A row without a token is left out: no command can name its reservation.
pub(in crate::store) fn tokens<R: Columns>(rows: &[R]) -> impl Iterator<Item = Token> {
    rows.iter().filter_map(|row| token(row).ok())
}

/// Decodes a UUID.
pub(in crate::store) fn uuid(row: &impl Columns, column: usize) -> Result<Uuid, StoreError> {
    Uuid::from_slice(row.bytes(column)?)
        .map_err(|error| corrupt(format!("an id in column {column}: {error}")))
}

/// Decodes a `traceparent`; `None` if it is NULL or this build cannot parse it, because nothing depends on it.
pub(in crate::store) fn trace(row: &impl Columns, column: usize) -> Result<Option<TraceContext>, StoreError> {
    Ok(row.optional_text(column)?.and_then(TraceContext::parse))
}

/// Decodes a whole number that must fit a smaller type.
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

/// Decodes a time or NULL.
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

/// The error of a column that is missing, or of another type than this version writes.
pub(in crate::store) fn unreadable(error: sqlx::Error) -> StoreError {
    corrupt(format!("a row does not have this version's shape: {error}"))
}
