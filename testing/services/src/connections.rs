//! The open connections of a proxy, so that both sides of each can be closed from outside.
//!
//! Never: the bytes that are sent. Next: `switch.rs` and `proxy/faults.rs`, which close connections.

use std::{
    collections::HashMap,
    net::{Shutdown, TcpStream},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The open connections, by a number that is never reused.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<HashMap<u64, Vec<TcpStream>>>,
}

impl Connections {
    /// Registers a connection with the client's side, so that it can be closed.
    pub(crate) fn add(&self, connection: u64, client: TcpStream) {
        lock(&self.open).insert(connection, vec![client]);
    }

    /// Registers the server's side of a connection, or closes that side if the connection was closed meanwhile.
    pub(crate) fn add_server(&self, connection: u64, server: TcpStream) {
        if let Some(sides) = lock(&self.open).get_mut(&connection) {
            sides.push(server);
        } else {
            shut_down(&server);
        }
    }

    pub(crate) fn is_open(&self, connection: u64) -> bool {
        lock(&self.open).contains_key(&connection)
    }

    /// Closes both sides of a connection.
    pub(crate) fn close(&self, connection: u64) {
        let mut open = lock(&self.open);
        // The sides are closed before the entry is removed: a thread that finds no entry must find a closed connection.
        open.get(&connection).into_iter().flatten().for_each(shut_down);
        open.remove(&connection);
    }

    pub(crate) fn close_all(&self) {
        let mut open = lock(&self.open);
        open.values().flatten().for_each(shut_down);
        open.clear();
    }
}

fn shut_down(side: &TcpStream) {
    // It fails if the side is closed already.
    let _ = side.shutdown(Shutdown::Both);
}

/// Locks a mutex and ignores poisoning: no code of this crate panics under its locks, and if it did, the data
/// would still be consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
