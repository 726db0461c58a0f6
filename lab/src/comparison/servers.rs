//! The database server and the Redis nodes of a lab: named on the command line, or started for this lab.
//!
//! Never: a server that was neither named nor started by the lab. Only builds with the feature `provide` can start
//! servers (docs/adr/0018-lab-servers.md).

use bespeak::{dispatch::Strategy, lock::LockKind};

use super::{
    args::LabArgs,
    redis,
    scratch::{ScratchDatabase, ScratchServer},
};
use bespeak_cli::{Failure, counted};

/// The fewest nodes of which a majority survives the loss of one.
const REDIS_NODES: usize = 3;

/// The servers of a lab.
pub(super) struct Servers {
    pub(super) database: ScratchServer,
    /// `None` if no strategy needs Redis.
    redis_urls: Option<String>,
    /// The servers that the lab started; dropping them stops them.
    #[cfg(feature = "provide")]
    _started: Option<started::Started>,
}

impl Servers {
    /// Finds or starts the servers that these strategies need.
    ///
    /// # Errors
    /// A server is not named or cannot be started. The message says which options help.
    pub(super) async fn find(args: &LabArgs, strategies: &[Strategy]) -> Result<Self, Failure> {
        let needs_redis = strategies.contains(&Strategy::Redlock);
        if args.provide {
            return Self::start(needs_redis).await;
        }
        let named = |flag: &Option<String>, variable| flag.clone().or_else(|| std::env::var(variable).ok());
        let Some(url) = named(&args.database_url, "BESPEAK_LAB_DATABASE_URL") else {
            return Err(Failure::usage(
                "the lab needs a MySQL server: --provide starts one, --database-url names one",
            ));
        };
        let redis_urls = named(&args.redis_urls, "BESPEAK_LAB_REDIS_URLS");
        let nodes = redis_urls.as_deref().map_or(0, |urls| urls.split(',').count());
        if needs_redis && nodes < REDIS_NODES {
            return Err(Failure::usage(format!(
                "redlock needs {REDIS_NODES} independent Redis nodes, but {}: --redis-urls names nodes, \
                 --provide starts \
                 all servers, --strategy chooses other strategies",
                counted(nodes as u64, "is named", "are named")
            )));
        }
        Ok(Self {
            database: ScratchServer::new(&url)?,
            redis_urls: redis_urls.filter(|_| needs_redis),
            #[cfg(feature = "provide")]
            _started: None,
        })
    }

    /// The settings of a server under test, except its strategy.
    pub(super) fn settings(
        &self,
        database: &ScratchDatabase,
        strategy: Strategy,
    ) -> Vec<(&'static str, String)> {
        let mut settings = vec![("BESPEAK_DATABASE_URL", database.url())];
        if let (Some(LockKind::Redlock), Some(urls)) = (strategy.lock(), &self.redis_urls) {
            settings.push(("BESPEAK_REDIS_URLS", urls.clone()));
        }
        settings
    }

    /// The version and number of the nodes, such as `Redis 7.0.15, 3 nodes`. `None` if no strategy needs Redis.
    pub(super) async fn redis_version(&self) -> Option<String> {
        let urls = self.redis_urls.as_deref()?;
        let first = urls.split(',').next().unwrap_or_default().trim();
        let version = redis::version(first).await.unwrap_or_else(|| "Redis of an unknown version".to_owned());
        Some(format!("{version}, {}", counted(urls.split(',').count() as u64, "node", "nodes")))
    }

    #[cfg(not(feature = "provide"))]
    async fn start(_with_redis: bool) -> Result<Self, Failure> {
        Err(Failure::usage(
            "this build cannot start servers: name them with --database-url and --redis-urls, or run `cargo \
             bespeak lab --provide` in a checkout",
        ))
    }

    #[cfg(feature = "provide")]
    async fn start(with_redis: bool) -> Result<Self, Failure> {
        let started = started::Started::start(with_redis).await?;
        Ok(Self {
            database: ScratchServer::new(&started.database.url())?,
            redis_urls: with_redis.then(|| {
                started.redis.iter().map(bespeak_services::Redis::url).collect::<Vec<_>>().join(",")
            }),
            _started: Some(started),
        })
    }
}

#[cfg(feature = "provide")]
mod started {
    use bespeak_services::{Mysql, Redis, ServiceError};

    use super::REDIS_NODES;
    use bespeak_cli::Failure;

    /// Every COMMIT is on disk when the server acknowledges it, and the tables of a run fit into memory.
    const DATABASE: [&str; 2] = ["--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=1G"];

    pub(super) struct Started {
        pub(super) database: Mysql,
        pub(super) redis: Vec<Redis>,
    }

    impl Started {
        pub(super) async fn start(with_redis: bool) -> Result<Self, Failure> {
            let failed = |error: ServiceError| Failure::caused("a server cannot be started", &error);
            let database = Mysql::start_own(&DATABASE).await.map_err(failed)?;
            let mut redis = Vec::new();
            if with_redis {
                for _ in 0..REDIS_NODES {
                    redis.push(Redis::start_own(&[]).await.map_err(failed)?);
                }
            }
            Ok(Self { database, redis })
        }
    }
}
