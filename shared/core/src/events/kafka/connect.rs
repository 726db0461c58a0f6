//! The configuration that every Kafka client shares: brokers, TLS, login, and what its callbacks do.

use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    error::KafkaError,
};

use crate::{
    events::{KafkaOptions, Login},
    telemetry,
};

/// The configuration of every client of these brokers.
pub(super) fn client(config: &KafkaOptions) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.servers).set("client.id", "bespeak");
    // Reconnect within a second when a broker is back; the defaults back off up to ten seconds.
    client.set("reconnect.backoff.ms", "100").set("reconnect.backoff.max.ms", "1000");
    let security = &config.security;
    let protocol = match (&security.login, security.tls) {
        (None, false) => "plaintext",
        (None, true) => "ssl",
        (Some(_), false) => "sasl_plaintext",
        (Some(_), true) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    if security.tls {
        // The vendored OpenSSL has no folder of certificates; with `probe`, librdkafka searches the usual places of a
        // system.
        client.set("ssl.ca.location", security.ca_file.as_deref().unwrap_or("probe"));
    }
    match &security.login {
        Some(Login::Password { mechanism, username, password }) => {
            client.set("sasl.mechanism", *mechanism);
            client.set("sasl.username", username).set("sasl.password", password);
        }
        Some(Login::MskIam { .. }) => {
            client.set("sasl.mechanism", "OAUTHBEARER");
        }
        None => {}
    }
    client
}

/// The callbacks of a client: errors, statistics, and tokens for a login.
pub(super) struct Context {
    region: Option<String>,
}

impl Context {
    pub(super) fn new(config: &KafkaOptions) -> Self {
        let region = match &config.security.login {
            Some(Login::MskIam { region }) => Some(region.clone()),
            _ => None,
        };
        Self { region }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    // The caller that meets an outage logs it once; librdkafka reports it for every broker and every attempt.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lags = partitions.filter_map(|partition| u64::try_from(partition.consumer_lag).ok());
        telemetry::set_consumer_lag(lags.sum());
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let region = self.region.clone().ok_or("this login has no tokens")?;
        msk_iam_token(region)
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        tracing::info!(?rebalance, "the partition assignment of this consumer changes");
        telemetry::count_rebalance();
    }
}

/// Fetches a token of Amazon MSK's IAM login for the credentials of the environment. The caller is a thread of
/// librdkafka or one that polls, neither of which may enter a runtime, so the request runs on a thread and a runtime
/// of its own.
#[cfg(feature = "msk-iam")]
fn msk_iam_token(region: String) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    use aws_msk_iam_sasl_signer::generate_auth_token;
    use aws_types::region::Region;

    let fetched = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let token = generate_auth_token(Region::new(region));
        let with_timeout = async { tokio::time::timeout(std::time::Duration::from_secs(10), token).await };
        match runtime.block_on(with_timeout) {
            Ok(token) => token.map_err(|error| error.to_string()),
            Err(_) => Err("no credentials within 10 s".to_owned()),
        }
    });
    let fetched = fetched.join().map_err(|_| "the thread that fetches credentials panicked")?;
    let (token, lifetime_ms) = fetched?;
    Ok(OAuthToken { token, principal_name: String::new(), lifetime_ms })
}

#[cfg(not(feature = "msk-iam"))]
fn msk_iam_token(_: String) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    Err("this build has no login with MSK IAM: build it with the feature msk-iam".into())
}
