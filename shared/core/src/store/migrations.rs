//! The migrations of every dialect, as they are compiled into the program.
//!
//! They are listed here, because sqlx's macro that reads a folder would have the build compile sqlx, its drivers and
//! its runtime a second time, for the macro itself.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// Lists the migrations of a dialect by their numbers and names, of which the names of their files consist.
macro_rules! migrations {
    ($dialect:literal: $($version:literal $name:literal)+) => {
        &[$(StoredMigration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../../migrations/", $dialect, "/", $version, "_", $name, ".sql")),
        }),+]
    };
}

#[cfg(feature = "sqlite")]
pub(super) const SQLITE: &[StoredMigration] = migrations!("sqlite":
    "0001" "books"
    "0002" "retention"
    "0003" "events"
    "0004" "webhooks"
    "0005" "traces"
    "0006" "operations"
    "0007" "webhook_reliability"
    "0008" "replays"
);

#[cfg(feature = "mysql")]
pub(super) const MYSQL: &[StoredMigration] = migrations!("mysql":
    "0001" "books"
    "0002" "retention"
    "0003" "events"
    "0004" "webhooks"
    "0005" "traces"
    "0006" "operations"
    "0007" "webhook_reliability"
    "0008" "replays"
);

/// A migration as its file says.
pub(super) struct StoredMigration {
    /// The number in the name of the file.
    version: &'static str,
    /// The rest of the name.
    name: &'static str,
    sql: &'static str,
}

/// The migrator of a dialect.
pub(super) fn migrator(migrations: &'static [StoredMigration]) -> Migrator {
    let migration = |stored: &StoredMigration| {
        // The test below reads the numbers from the names of the files.
        let version = stored.version.parse().unwrap_or(i64::MAX);
        let description = stored.name.replace('_', " ").into();
        Migration::new(version, description, MigrationType::Simple, stored.sql.into_sql_str(), false)
    };
    Migrator::with_migrations(migrations.iter().map(migration).collect())
}

#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "mysql"))]
mod tests {
    use super::*;

    /// The names of the files of a dialect, in order.
    fn files(dialect: &str) -> Vec<String> {
        let folder = format!("{}/../../migrations/{dialect}", env!("CARGO_MANIFEST_DIR"));
        let listed = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn every_file_is_listed_under_its_number_and_every_dialect_has_the_same() {
        let listed = |migrations: &[StoredMigration]| -> Vec<String> {
            migrations.iter().map(|stored| format!("{}_{}.sql", stored.version, stored.name)).collect()
        };
        assert_eq!(listed(SQLITE), files("sqlite"));
        assert_eq!(listed(MYSQL), files("mysql"));
        assert_eq!(listed(SQLITE), listed(MYSQL));
        for migrations in [SQLITE, MYSQL] {
            let versions: Vec<i64> = migrator(migrations).iter().map(|migration| migration.version).collect();
            assert!(versions.is_sorted_by(|a, b| a < b) && !versions.contains(&i64::MAX), "{versions:?}");
        }
    }

    #[test]
    fn a_migration_keeps_the_checksum_and_the_description_that_databases_have_recorded() {
        let first = migrator(SQLITE).iter().next().unwrap().clone();
        assert_eq!((first.version, &*first.description), (1, "books"));
        let hex: String = first.checksum.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(
            hex,
            "53a5513f01bce4fc4d9d78a7a35dfc270323584414d3541239322d2d9fab02a873cb56436f18454cc2092888f36d3a15"
        );
    }
}
