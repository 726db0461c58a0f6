//! Opens Redis clients: the TCP and TLS settings that every use of Redis shares.

use std::time::Duration;

use redis::{Client, IntoConnectionInfo, RedisResult, io::tcp::TcpSettings};

/// A client of a node. Its connections send without delay, and break when sent data is not acknowledged for
/// `unheard_for`. Without that limit, a node that vanished (its machine, or a firewall's state) would be noticed only
/// after minutes.
pub(crate) fn open(url: &str, unheard_for: Duration) -> RedisResult<Client> {
    // `rediss` needs a process-wide provider of cryptography. Every caller installs the same, so a failure is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tcp = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(unheard_for);
    #[cfg(not(target_os = "linux"))]
    let _ = unheard_for;
    Client::open(url.into_connection_info()?.set_tcp_settings(tcp))
}
