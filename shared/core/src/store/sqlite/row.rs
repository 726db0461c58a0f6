//! Reads the columns of a row of SQLite's driver.

use sqlx::{Row, sqlite::SqliteRow};

use crate::store::{
    StoreError,
    decode::{Columns, unreadable},
};

impl Columns for SqliteRow {
    fn integer(&self, column: usize) -> Result<i64, StoreError> {
        self.try_get(column).map_err(unreadable)
    }

    fn optional_integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
        self.try_get(column).map_err(unreadable)
    }

    fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        self.try_get(column).map_err(unreadable)
    }

    fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        self.try_get(column).map_err(unreadable)
    }
}
