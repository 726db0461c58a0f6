//! How Redis is connected to, whatever it is asked for.

use std::time::Duration;

use redis::{Client, IntoConnectionInfo, RedisResult, io::tcp::TcpSettings};

/// A client of this node, whose connections send at once what they are given, and break where what they sent is not
/// acknowledged for so long. Without that a node that vanished (its machine, a firewall's state) takes minutes to be noticed.
pub(crate) fn open(url: &str, unheard_for: Duration) -> RedisResult<Client> {
    // The first to set the process's cryptography wins; there is only one, and `rediss` needs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tcp = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(unheard_for);
    #[cfg(not(target_os = "linux"))]
    let _ = unheard_for;
    Client::open(url.into_connection_info()?.set_tcp_settings(tcp))
}
