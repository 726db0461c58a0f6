//! Reads the columns of a row of MySQL's driver.

use sqlx::{Row, mysql::MySqlRow};

use crate::store::{
    StoreError,
    decode::{Columns, corrupt, unreadable},
};

impl Columns for MySqlRow {
    fn integer(&self, column: usize) -> Result<i64, StoreError> {
        self.try_get_unchecked(column).map_err(unreadable)
    }

    fn optional_integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
        self.try_get_unchecked(column).map_err(unreadable)
    }

    // Idempotency keys are VARBINARY, which the driver would not return as text.
    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        let bytes: Option<&[u8]> = self.try_get_unchecked(column).map_err(unreadable)?;
        bytes
            .map(|bytes| {
                std::str::from_utf8(bytes)
                    .map_err(|error| corrupt(format!("column {column} is not text: {error}")))
            })
            .transpose()
    }

    fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        self.try_get_unchecked(column).map_err(unreadable)
    }
}
