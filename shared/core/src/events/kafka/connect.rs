//! How brokers are spoken to: addresses, TLS, and who this is.

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

/// What every client of these brokers is configured with.
pub(super) fn client(config: &KafkaOptions) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.servers).set("client.id", "bespeak");
    // A broker that comes back is used again within a second.
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
        // The OpenSSL of this build has no folder of its own: librdkafka looks where systems keep theirs.
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

/// What clients tell this process: errors and statistics; and where they get tokens from.
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

    // An outage is told once by whoever meets it; librdkafka says so for each broker, at each attempt.
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
        tracing::info!(?rebalance, "the partitions of this consumer change");
        telemetry::count_rejoined();
    }
}

/// A token of Amazon MSK's IAM, for the credentials of the environment. Called by a thread of librdkafka, or by one that
/// polls; what it asks for is fetched by a runtime of its own.
#[cfg(feature = "msk-iam")]
fn msk_iam_token(region: String) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    use aws_msk_iam_sasl_signer::generate_auth_token;
    use aws_types::region::Region;

    let fetched = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let token = generate_auth_token(Region::new(region));
        let patient = async { tokio::time::timeout(std::time::Duration::from_secs(10), token).await };
        match runtime.block_on(patient) {
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
    Err("this build has no login by MSK IAM: build it with the feature msk-iam".into())
}
